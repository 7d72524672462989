/*
 * policy: the whole JSON document, compiled: what every other room reads. Immutable once published, shared between threads.
 *
 * policy_load parses, checks and compiles all of it and reports every error; a faulty document gives no policy. The structs below
 * are the document's own objects with names resolved to indexes; strings belong to the policy. Deciding is in policy/decide.h.
 * Life: policy_load -> policy_ref / policy_unref from any thread (one atomic count); the last unref frees.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "base/log.h"
#include "base/tls.h"
#include "socks/command.h"

struct domain_set;
struct ip_prefix;
struct ip_set;
struct policy_names;
struct rule_index;

/* ---- errors ---- */

struct policy_error {
	char *pointer;                 /* RFC 6901; "" is the document */
	unsigned line, column;         /* from 1; 0, 0: not in the document (a file it names) */
	char *message;                 /* what was found and what was expected */
};

struct policy_errors {
	struct policy_error *list;
	size_t n, cap;
	size_t dropped;                /* beyond POLICY_ERRORS_MAX */
};

enum { POLICY_ERRORS_MAX = 1000, POLICY_DEPTH_MAX = 64, POLICY_BYTES_MAX = 64 << 20 };
enum {
	POLICY_NAME_MAX = 63,          /* bytes of an object's name */
	POLICY_HOPS_MAX = 16,          /* of a path, through all its chains and pools */
	POLICY_PICKS_MAX = 16,         /* pools met on a path */
	POLICY_CHAINS_MAX = 8,         /* chains met on a path */
};

void policy_errors_init(struct policy_errors *e);
void policy_errors_free(struct policy_errors *e);

/* ---- the compiled document ---- */

enum route_kind { ROUTE_DIRECT, ROUTE_REJECT, ROUTE_UPSTREAM, ROUTE_POOL, ROUTE_CHAIN };

/* What a rule, a pool member or a chain's hop names. */
struct policy_route {
	uint8_t kind;                  /* enum route_kind */
	uint32_t index;                /* into upstreams, pools or chains; else 0 */
};

/* Where the sockets of BIND or of UDP ASSOCIATE are, and what clients are told of it. */
struct policy_sockets {
	struct endpoint address;       /* they listen there; kind NONE: see router/local.h */
	struct endpoint advertise;     /* told instead of it; kind NONE: what they listen on */
	uint16_t first_port, last_port;        /* 0, 0: the kernel chooses */
	uint32_t max_datagram;         /* of UDP: bytes of payload; 0: any */
};

/* What a listener shows and trusts. Absolute paths or NULL. */
struct policy_listener_tls {
	const char *certificate;       /* a chain in PEM; NULL: no TLS */
	const char *key;               /* NULL: it is in the certificate's file */
	const char *client_ca;         /* whose certificates clients must show; NULL: none are asked for */
};

struct policy_listener {
	const char *name;              /* "listener-0" where the document gives none */
	const char *unix_path;         /* or NULL; absolute, or relative to the policy's directory and made absolute */
	struct endpoint listen;        /* unless unix_path; kind NONE then */
	const char *listen_text;       /* as written */
	unsigned line, column;         /* where it is written */
	unsigned protocols;            /* PROTOCOL_BIT of socks/command.h */
	int auth;                      /* index into auths; -1: none */
	bool allow_open;
	bool proxy_protocol;           /* a PROXY header comes first */
	struct policy_listener_tls tls;
	bool tor_resolve;              /* SOCKS_RESOLVE and SOCKS_RESOLVE_PTR are served */
	uint32_t max_connections;      /* 0: no bound */
	uint32_t max_connections_per_client;
	struct policy_sockets udp, bind;
};

struct policy_user {
	const char *name;
	const char *password_hash;     /* crypt(3) */
};

/* Clients' addresses, and who may come from them. */
struct policy_network {
	struct ip_prefix *prefixes;    /* sorted */
	size_t n_prefixes;
	const char **domains, **suffixes;      /* of clients' names; each sorted, in lower case */
	size_t n_domains, n_suffixes;
	const char **users;            /* sorted */
	size_t n_users;
	bool anybody;                  /* `users` is not there: whoever comes is let in, unasked */
};

struct policy_gssapi_name {
	const char *principal, *user;
};

/* How clients prove who they are by Kerberos. */
struct policy_gssapi {
	const char *keytab;            /* absolute path, with a key of the service */
	const char *service;           /* "rcmd", of whatever host */
	enum gssapi_protection protection;     /* the least that is taken */
	const char *realm;             /* the one whose principals are users by their name alone; NULL: none */
	struct policy_gssapi_name *map;        /* sorted by principal */
	size_t n_map;
};

struct policy_auth {
	const char *name;
	unsigned methods;              /* enum auth_method bits of socks/command.h */
	struct policy_user *users;     /* of `users` and `users_file`, sorted by name */
	size_t n_users;
	const char *users_file;        /* absolute path or NULL */
	struct policy_network *networks;       /* AUTH_IDENT; the first that has the client decides */
	size_t n_networks;
	uint64_t ident_timeout_ms;
	struct policy_gssapi gssapi;   /* AUTH_GSSAPI */
};

struct policy_admin {
	bool enabled;
	struct endpoint listen;
	const char *token;             /* secret; NULL: none asked for */
	const char *token_file;
};

enum dns_family { DNS_AUTO, DNS_IPV4, DNS_IPV6, DNS_IPV4_ONLY, DNS_IPV6_ONLY };

struct policy_dns_host {
	const char *name;              /* lower case, no trailing dot */
	struct endpoint *addrs;        /* port 0 */
	size_t n_addrs;
};

struct policy_dns_rule {
	const char **suffixes;
	size_t n_suffixes;
	struct endpoint *servers;      /* port 53 where none was written */
	size_t n_servers;
};

struct policy_dns {
	struct endpoint *servers;      /* n 0: the system's (resolv.conf) */
	size_t n_servers;
	uint32_t timeout_ms, attempts;
	enum dns_family family;
	struct policy_dns_host *hosts;
	size_t n_hosts;
	struct policy_dns_rule *rules;
	size_t n_rules;
	uint32_t cache_max_entries;
	uint64_t cache_min_ttl_ms, cache_max_ttl_ms, cache_negative_ttl_ms;
};

enum upstream_scheme { SCHEME_SOCKS4, SCHEME_SOCKS4A, SCHEME_SOCKS5, SCHEME_SOCKS5_TLS, SCHEME_HTTP, SCHEME_HTTPS, SCHEME_DIRECT };

struct policy_tls {
	const char *server_name;       /* NULL: the URL's host */
	const char *ca, *certificate, *key;    /* absolute paths or NULL */
	bool verify;                   /* default true */
};

/* How we prove who we are. */
struct policy_upstream_gssapi {
	const char *keytab;            /* absolute path; NULL: tickets are in ccache */
	const char *ccache;            /* "FILE:/path"; NULL: keytab, or else the system's default one */
	const char *principal;         /* ours; NULL: the first of the keytab, or the cache's */
	const char *target;            /* the proxy's: "rcmd/HOST", the URL's host unless it says another */
	enum gssapi_protection protection;     /* asked for, and the least that is taken */
};

struct policy_upstream {
	const char *name;
	enum upstream_scheme scheme;
	const char *url;               /* as written, but for its password, which is "***" */
	struct endpoint at;            /* where the proxy is; kind NONE for direct:// */
	const char *username, *password;       /* NULL: none; may hold {user} and {session} */
	bool per_client_credentials;   /* either holds {user} or {session} */
	bool auth_gssapi;              /* that and nothing else is offered; there is no user name */
	struct policy_upstream_gssapi gssapi;
	bool resolve_local;
	uint32_t max_connections;      /* 0: no bound */
	struct endpoint source;        /* kind NONE: the kernel chooses */
	const char *interface;         /* NULL: any */
	uint32_t mark;                 /* 0: none */
	uint32_t warm;                 /* connections kept ready; 0: none */
	uint64_t warm_max_age_ms;
	bool pipeline;                 /* say a handshake in one piece */
	bool fast_open;                /* its first bytes ride in the SYN */
	uint32_t send_proxy;           /* version of the PROXY header that goes first; 0: none */
	struct policy_tls tls;
};

enum balance {
	BALANCE_ROUND_ROBIN,
	BALANCE_LEAST_CONNECTIONS,
	BALANCE_RANDOM,
	BALANCE_FIRST,
	BALANCE_TWO_CHOICES,
	BALANCE_LEAST_LATENCY,
	BALANCE_CONSISTENT_HASH,
	BALANCE_N
};

/* What of a request two requests have in common where they belong together. */
enum pool_key { KEY_NONE, KEY_CLIENT_IP, KEY_USER, KEY_SESSION, KEY_DESTINATION, KEY_DESTINATION_HOST };

struct policy_member {
	const char *name;              /* of what it names */
	struct policy_route route;     /* never ROUTE_REJECT */
	uint32_t weight;               /* 0-256, default 1 */
	uint32_t tier;
};

enum health_check { HEALTH_NONE, HEALTH_CONNECT, HEALTH_HANDSHAKE, HEALTH_TUNNEL, HEALTH_HTTP };

struct policy_status_range {
	uint16_t from, to;             /* HTTP statuses, both included */
};

struct policy_health {
	enum health_check check;
	struct endpoint target;        /* HEALTH_TUNNEL, HEALTH_HTTP */
	const char *method, *path, *host;      /* HEALTH_HTTP: "GET", "/", what its Host header says */
	struct policy_status_range *statuses;  /* HEALTH_HTTP: those that are right */
	size_t n_statuses;
	const char *body;              /* HEALTH_HTTP: what the answer's body must contain; NULL: anything */
	uint64_t interval_ms, timeout_ms;
	uint64_t fast_interval_ms;     /* while the member is not up, or its last check failed */
	uint32_t rise, fall;
	uint32_t jitter_percent;       /* 0-100 */
	bool start_down;               /* out until a check has passed */
	struct endpoint reference;     /* dialled direct when a check fails; kind NONE: none */
};

struct policy_outlier {
	uint32_t failures;             /* 0: nobody is ejected */
	uint64_t window_ms, ejection_ms;
	uint32_t max_ejected_percent;
};

struct policy_avoid {
	uint32_t failures;             /* in a row, for one destination host; 0: nobody is avoided */
	uint64_t for_ms;
};

struct policy_race {
	uint32_t count;                /* attempts side by side; 0: no race */
	uint64_t delay_ms;             /* from one to the next */
	uint32_t max_extra_percent;    /* of requests */
};

struct policy_queue {
	uint32_t max;                  /* 0: nobody waits */
	uint64_t timeout_ms;
};

struct policy_sticky {
	enum pool_key key;             /* KEY_NONE: not sticky */
	uint64_t ttl_ms;               /* since it was used last */
	uint32_t max_entries;
	bool repin;                    /* another member where the one cannot be used */
};

struct policy_pool {
	bool needs_addresses;          /* every way along it ends where names must be resolved here: policy_route_needs_addresses */
	const char *name;
	struct policy_member *members;
	size_t n_members;
	enum balance balance;
	enum pool_key hash_key;        /* of BALANCE_CONSISTENT_HASH; else KEY_NONE */
	uint32_t retry_attempts;       /* after the first */
	uint32_t retry_budget_percent; /* of requests */
	struct policy_race race;
	struct policy_sticky sticky;
	struct policy_queue queue;
	struct policy_outlier outlier;
	struct policy_avoid avoid;
	uint64_t slow_start_ms;        /* 0: none */
	struct policy_health health;
};

struct policy_chain {
	bool needs_addresses;          /* as of a pool */
	const char *name;
	struct policy_route *hops;     /* upstreams, pools or chains, first hop first */
	size_t n_hops;
};

enum set_type { SET_DOMAIN, SET_IP };

struct policy_set {
	const char *name;
	enum set_type type;
	const char *file;              /* absolute path, or NULL: values */
	struct domain_set *domains;    /* SET_DOMAIN */
	struct ip_set *ips;            /* SET_IP */
	size_t n_entries;
};

struct policy_limits {
	uint32_t max_connections;              /* of all listeners; 0: no bound */
};

struct policy_rule {
	const char *name;              /* "rule-0" where the document gives none */
	struct policy_route route;
	const char *route_name;
	bool resolve;
	const struct rule_match *match;        /* policy/match.h; NULL: all */
};

struct policy_timeouts {
	uint64_t handshake_ms, connect_ms, bind_ms, idle_ms, drain_ms, udp_idle_ms;    /* idle, bind, udp_idle: 0 is never */
};

struct policy_log {
	enum log_level level;
	enum log_format format;
	bool access;
};

struct policy {
	const char *source;            /* path, or "built-in", or "api" */
	const char *dir;               /* absolute; relative names hang on it */
	const char *text;              /* the document as it is in force, secrets and all; text_len bytes */
	size_t text_len;
	const char *public_text;       /* the same as pretty JSON, secrets as "***" */
	char etag[20];                 /* 16 hex digits of the text's hash; without quotes */
	uint64_t revision;             /* set by whoever publishes, before it does */
	int64_t loaded_at_ms;          /* wall clock */

	uint32_t workers;              /* 0: one for each core */
	struct policy_log log;
	struct policy_listener *listeners;
	size_t n_listeners;
	struct policy_auth *auths;
	size_t n_auths;
	struct policy_admin admin;
	struct policy_dns dns;
	struct policy_upstream *upstreams;
	size_t n_upstreams;
	struct policy_pool *pools;
	size_t n_pools;
	struct policy_chain *chains;
	size_t n_chains;
	struct policy_set *sets;
	size_t n_sets;
	struct policy_rule *rules;
	size_t n_rules;
	const struct policy_names *names;      /* policy/names.h */
	struct rule_index *index;      /* policy/rule_index.h */
	struct policy_route default_route;
	const char *default_route_name;
	struct policy_limits limits;
	struct policy_timeouts timeouts;
};

struct policy_source {
	const char *text;              /* not NUL-terminated; copied */
	size_t len;
	const char *name;              /* for policy->source */
	const char *dir;               /* what relative names hang on; NULL: the working directory */
	const struct policy *before;   /* whose secrets a "***" keeps; NULL: a "***" is an error */
};

/**
 * Parses, checks, compiles. Reads the files that the document names (sets, secrets, users, tokens); may take seconds: not for a worker.
 * @return a policy with one reference, or NULL and at least one error
 */
struct policy *policy_load(const struct policy_source *from, struct policy_errors *errors) WARN_UNUSED;
/** The same from a file. */
struct policy *policy_load_file(const char *path, const struct policy *before, struct policy_errors *errors) WARN_UNUSED;
/** The document that `run` serves without a file, with the command line's changes: malloc'ed JSON text. admin "off": no API. */
char *policy_default_text(const char *const *listen, size_t n_listen, const char *const *upstreams, size_t n_upstreams, const char *admin);

struct policy *policy_ref(struct policy *p);
void policy_unref(struct policy *p);   /* NULL is fine */

/** The name of what a route leads to: "direct", "reject", or the object's name. */
const char *policy_route_name(const struct policy *p, struct policy_route r);
/** By name, in the one namespace of routes. False: there is none. */
bool policy_find_route(const struct policy *p, const char *name, struct policy_route *out);
/** Can a request be sent along it without leaving names to a proxy? (direct, direct://, socks4 as last hop, resolve: local) */
bool policy_route_needs_addresses(const struct policy *p, struct policy_route r);
/** What a server's context is made from. */
struct tls_options policy_listener_tls_options(const struct policy_listener_tls *t);
const struct policy_user *policy_find_user(const struct policy_auth *a, const char *name);
/**
 * The first network that has the client, by its address or its name. name: NULL: not looked up; "": it has none.
 * @return NULL: none has it; or, *wants_name: one that goes by names may
 */
const struct policy_network *policy_find_network(const struct policy_auth *a, const struct endpoint *client, const char *name,
						 bool *wants_name);
bool policy_network_has_user(const struct policy_network *n, const char *user);
/**
 * Which user a principal is ("alice@EXAMPLE.COM"): what `map` says; else with `realm` its name without that realm; else all of it.
 * False: it is nobody here (of another realm, or its name can't be a user's).
 */
bool policy_gssapi_user(const struct policy_gssapi *g, const char *principal, char *out, size_t cap) WARN_UNUSED;

/** Writes all errors as "NAME:LINE:COLUMN: /pointer: text" lines to a malloc'ed string. */
char *policy_errors_to_text(const struct policy_errors *e, const char *name);

#endif
