/*
 * handlers: the API's calls, each answering one `struct call`; by file, as the table in routes.c
 * names them.
 */
#ifndef ADMIN_HANDLERS_H
#define ADMIN_HANDLERS_H

struct call;

/* status.c */
void handle_healthz(struct call *c);
void handle_readyz(struct call *c);
void handle_status(struct call *c);
void handle_stats(struct call *c);
void handle_log_level(struct call *c);
void handle_put_log_level(struct call *c);
void handle_drain(struct call *c);

/* scrape.c */
void handle_metrics(struct call *c);

/* upstreams.c */
void handle_upstreams(struct call *c);
void handle_upstream(struct call *c);
void handle_patch_upstream(struct call *c);

/* probe.c */
void handle_probe_upstream(struct call *c);

/* pools.c */
void handle_pools(struct call *c);
void handle_pool(struct call *c);
void handle_chains(struct call *c);
void handle_rules(struct call *c);
void handle_listeners(struct call *c);

/* sticky.c */
void handle_sticky(struct call *c);
void handle_drop_sticky(struct call *c);
void handle_put_sticky_key(struct call *c);
void handle_drop_sticky_key(struct call *c);

/* connections.c */
void handle_connections(struct call *c);
void handle_close_connection(struct call *c);
void handle_close_connections(struct call *c);

/* policy.c */
void handle_policy(struct call *c);
void handle_put_policy(struct call *c);
void handle_check_policy(struct call *c);
void handle_reload_policy(struct call *c);

/* explain.c */
void handle_explain(struct call *c);

/* events.c */
void handle_events(struct call *c);

/* dns.c */
void handle_dns_cache(struct call *c);
void handle_drop_dns(struct call *c);

#endif
