/*
 * Tests of policy_load: each key's fault with its place and text, what only the whole shows, and
 * documents with very many of them. See test_policy_parse.c for those that are sound.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "marked.h"
#include "policy/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOC(keys) "{" keys ", \"default_route\": \"direct\"}"
#define LISTENER(keys) DOC("\"listeners\": [{\"listen\": \"127.0.0.1:1080\", " keys "}]")
#define UPSTREAM(keys) DOC("\"upstreams\": [{\"name\": \"u\", " keys "}]")
#define ROUTES                                                                                     \
	"\"upstreams\": [{\"name\": \"u\", \"url\": \"socks5://a:1\"}, {\"name\": \"v\", "         \
	"\"url\": \"http://b:1\"},"                                                                \
	"{\"name\": \"out\", \"url\": \"direct://\"}], "
#define POOL(keys) DOC(ROUTES "\"pools\": [{\"name\": \"p\", \"members\": [\"u\"], " keys "}]")
#define AUTH(keys) DOC("\"auth\": [{\"name\": \"a\", " keys "}]")
#define IDENT(networks) AUTH("\"methods\": [\"ident\"], \"networks\": " networks)
#define USERS(users) AUTH("\"methods\": [\"userpass\"], \"users\": [" users "]")
#define DNS(keys) DOC("\"dns\": {" keys "}")
#define SET(keys) DOC("\"sets\": [{\"name\": \"s\", " keys "}]")
#define ADMIN(keys) DOC("\"admin\": {" keys "}")

struct faulty {
	const char *text, *want;
};

static const struct faulty documents[] = {
	{ "^[]", ": expected an object, found an empty array" },
	{ "^{}", ": the key \"default_route\" is missing" },
	{ "^{\"listeners\": [^{}]}", ": the key \"default_route\" is missing|/listeners/0: the key "
	                             "\"listen\" is missing" },
	{ DOC("^\"upsteams\": []"), "/upsteams: unknown key \"upsteams\": did you mean "
	                            "\"upstreams\"?" },
	{ DOC("^\"xyzzy\": 1"), "/xyzzy: unknown key \"xyzzy\", expected one of \"$schema\", "
	                        "\"workers\"" },
	{ DOC("^\"a/b~\": 1"), "/a~1b~0: unknown key" },
	{ DOC("\"workers\": 1, ^\"workers\": 2"), "/workers: the key is repeated" },
	{ DOC("\"workers\": ^-1"), "/workers: expected an integer from 0 to 1024, found -1" },
	{ DOC("\"workers\": ^2.0"), "/workers: found 2.0" },
	{ DOC("\"workers\": ^\"2\""), "/workers: found \"2\"" },
	{ DOC("\"workers\": ^99999999999999999999"), "/workers: 64 bits can't hold" },
	{ DOC("\"$schema\": ^1"), "/$schema: expected a string, found 1" },
	{ DOC("\"comment\": ^[]"), "/comment: expected a string, found an empty array" },
	{ DOC("\"listeners\": ^{}"), "/listeners: expected a list of listeners, found an object" },
	{ DOC("\"listeners\": [^1]"), "/listeners/0: expected an object, found 1" },
	{ "{\"default_route\": ^\"tokio\", \"upstreams\": [{\"name\": \"tokyo\", \"url\": "
	  "\"socks5://a\"}]}",
	    "/default_route: found \"tokio\", which does not exist: did you mean \"tokyo\"?" },
	{ "{\"default_route\": ^7}", "/default_route: \"direct\" or \"reject\", found 7" },
	{ "{\"default_route\": ^\"\\u0000\"}", "/default_route: found \\u0000" },
	{ "{\n  \"workers\": ^tru\n}", ": syntax error: expected a value, found 't'" },
	{ DOC("\"log\": {\"level\": ^\"inof\", \"format\": ^\"xml\", \"access\": ^1, ^\"file\": "
	      "\"x\"}"),
	    "/log/level: did you mean \"info\"?|/log/format: expected one of \"text\", \"json\", "
	    "found \"xml\"|"
	    "/log/access: expected true or false, found 1|/log/file: unknown key \"file\"" },
	{ DOC("\"limits\": {\"max_connections\": ^-5}"), "/limits/max_connections: found -5" },
	{ DOC("\"timeouts\": {\"connect\": ^\"0s\", \"idle\": ^10, \"drain\": ^\"1 h\", \"bind\": "
	      "^\"1001h\"}"),
	    "/timeouts/connect: a duration from \"1ms\" to \"1h\"|/timeouts/idle: found "
	    "10|/timeouts/drain: found \"1 h\"|/timeouts/bind: "
	    "from \"0s\" to \"1000h\"" },
};

static const struct faulty listeners[] = {
	{ DOC("\"listeners\": [{\"listen\": ^\"1080\"}]"), "/listeners/0/listen: expected "
	                                                   "\"host:port\"" },
	{ DOC("\"listeners\": [{\"listen\": ^\"127.0.0.1:0\"}]"), "/listeners/0/listen: the port "
	                                                          "is 0" },
	{ DOC("\"listeners\": [{\"listen\": ^\"127.0.0.1:70000\"}]"), "/listeners/0/listen: with a "
	                                                              "port from 1 to 65535" },
	{ DOC("\"listeners\": [{\"listen\": ^\"example.com:1\"}]"), "/listeners/0/listen: names "
	                                                            "are not looked up" },
	{ DOC("\"listeners\": [{\"listen\": ^\"unix:\"}]"), "/listeners/0/listen: expected a path "
	                                                    "behind" },
	{ DOC("\"listeners\": [{\"listen\": "
	      "^\"unix:/012345678901234567890123456789012345678901234567890123456789"
	      "0123456789012345678901234567890123456789012345678\"}]"),
	    "/listeners/0/listen: expected a path of at most 107 bytes" },
	{ DOC("\"listeners\": [{\"listen\": ^12}]"), "/listeners/0/listen: expected a string of "
	                                             "the form" },
	{ LISTENER("\"name\": ^\"\""), "/listeners/0/name: expected a name of 1 to 63 bytes "
	                               "without spaces" },
	{ LISTENER("\"name\": ^\"a b\""), "/listeners/0/name: found \"a b\"" },
	{ LISTENER("\"protocols\": ^[]"), "/listeners/0/protocols: that is not empty, found an "
	                                  "empty array" },
	{ LISTENER("\"protocols\": [\"socks5\", ^\"sock4\", ^\"socks5\", ^5]"),
	    "/listeners/0/protocols/1: did you mean \"socks4\"?|/listeners/0/protocols/2: found "
	    "\"socks5\" twice|/listeners/0/protocols/3: found 5" },
	{ LISTENER("\"auth\": ^\"staff\""), "/listeners/0/auth: expected the name of an auth "
	                                    "block, found \"staff\"" },
	{ LISTENER("\"max_connections\": ^\"9\""), "/listeners/0/max_connections: expected an "
	                                           "integer" },
	{ LISTENER("\"proxy_protocol\": ^1"), "/listeners/0/proxy_protocol: expected true or false" },
	{ LISTENER("\"tls\": ^{}"), "/listeners/0/tls: the key \"certificate\" is missing" },
	{ LISTENER("\"tls\": ^true"), "/listeners/0/tls: expected an object, found true" },
	{ LISTENER("\"tls\": ^{\"certificate\": \"absent.pem\"}"), "/listeners/0/tls: absent.pem" },
	{ LISTENER("\"tls\": ^{\"certificate\": \"secret\"}"), "/listeners/0/tls: certificate file" },
	{ LISTENER("\"tls\": {\"certificate\": ^7, ^\"ca\": \"x\", \"client_ca\": ^\"\"}"),
	    "/listeners/0/tls/certificate: found 7|/listeners/0/tls/ca: unknown key|"
	    "/listeners/0/tls/client_ca: expected" },
	{ LISTENER("\"tor_resolve\": ^0"), "/listeners/0/tor_resolve: expected true or false" },
	{ LISTENER("\"udp\": {\"ports\": ^\"9-8\", \"address\": ^\"1.2.3.4:5\", \"advertise\": ^\"::\"}"),
	    "/listeners/0/udp/ports: expected a range \"a-b\" of ports from 1 to "
	    "65535|/listeners/0/udp/address: expected|/listeners/0/udp/advertise: others can reach" },
	{ LISTENER("\"bind\": {\"ports\": ^\"0-8\", ^\"port\": 1}, \"udp\": ^[]"),
	    "/listeners/0/bind/ports: expected a range|/listeners/0/bind/port: did you mean "
	    "\"ports\"?|/listeners/0/udp: expected an object" },
	{ LISTENER("\"udp\": {\"max_datagram\": ^\"0B\"}"), "/listeners/0/udp/max_datagram: \"1B\" to \"64KiB\"" },
	{ LISTENER("\"udp\": {\"max_datagram\": ^\"65KiB\"}"), "/listeners/0/udp/max_datagram: found" },
	{ LISTENER("\"udp\": {\"max_datagram\": ^8192}"), "/listeners/0/udp/max_datagram: found 8192" },
	{ LISTENER("\"bind\": {^\"max_datagram\": \"1KiB\"}"), "/listeners/0/bind/max_datagram: " },
	{ LISTENER("\"bind\": {\"ports\": ^8000, \"advertise\": ^\"a.example\"}"),
	    "/listeners/0/bind/ports: found 8000|/listeners/0/bind/advertise: expected" },
	{ DOC("\"listeners\": [{\"name\": \"x\", \"listen\": \"127.0.0.1:1\"}, {\"name\": ^\"x\", "
	      "\"listen\": \"127.0.0.1:2\"}]"),
	    "/listeners/1/name: the name \"x\" is taken: /listeners/0, line 1, has it" },
	{ DOC("\"listeners\": [{\"listen\": \"127.0.0.1:1\"}, {\"listen\": "
	      "^\"[::ffff:127.0.0.1]:1\"}]"),
	    "/listeners/1/listen: twice, expected each once: the listener \"listener-0\" has it" },
	{ DOC("\"listeners\": [{\"listen\": \"unix:a\"}, {\"listen\": ^\"unix:a\"}]"),
	    "/listeners/1/listen: found the address unix:a twice" },
	{ DOC("\"listeners\": [{\"listen\": ^\"127.0.0.1:1\"}, {\"listen\": \"0.0.0.0:1\", "
	      "\"allow_open\": true}, {\"listen\": ^\"127.0.0.2:1\"}, {\"listen\": \"[::1]:1\"}]"),
	    "/listeners/0/listen: found 127.0.0.1:1, which the listener \"listener-1\" on 0.0.0.0:1 "
	    "has as well|/listeners/2/listen: found 127.0.0.2:1" },
	{ DOC("\"listeners\": [^{\"listen\": \"0.0.0.0:1\"}]"), "/listeners/0: other hosts reach "
	                                                        "and that lets anybody in" },
	{ DOC("\"listeners\": [^{\"listen\": \"[::]:1\"}]"), "/listeners/0: \"allow_open\": true" },
	{ DOC("\"auth\": [{\"name\": \"a\", \"methods\": [\"none\"]}], \"listeners\": "
	      "[^{\"listen\": \"10.0.0.1:1\", \"auth\": \"a\"}]"),
	    "/listeners/0: without the method \"none\"" },
};

static const struct faulty doors[] = {
	{ ADMIN("\"listen\": ^\"nope\""), "/admin/listen: expected \"host:port\"" },
	{ DOC("\"admin\": ^{}"), "/admin: the key \"listen\" is missing" },
	{ DOC("\"admin\": ^{\"listen\": \"0.0.0.0:9080\"}"), "/admin: the key \"token\" or "
	                                                     "\"token_file\" is missing: "
	                                                     "0.0.0.0:9080 can be reached" },
	{ ADMIN("\"listen\": \"127.0.0.1:1\", \"token\": \"t\", ^\"token_file\": \"secret\""),
	    "/admin/token_file: found both" },
	{ ADMIN("\"listen\": \"127.0.0.1:1\", \"token\": ^\"a b\""), "/admin/token: expected a "
	                                                             "token of visible ASCII" },
	{ ADMIN("\"listen\": \"127.0.0.1:1\", \"token\": ^\"\""), "/admin/token: found an empty "
	                                                          "string" },
	{ ADMIN("\"listen\": \"127.0.0.1:1\", \"token_file\": ^\"absent\""), "/admin/token_file: "
	                                                                     "absent can't be "
	                                                                     "read: No such file" },
	{ ADMIN("\"listen\": \"127.0.0.1:1\", \"token_file\": ^\"two-lines\""), "/admin/"
	                                                                        "token_file: "
	                                                                        "expected one "
	                                                                        "line" },
	{ ADMIN("\"listen\": \"127.0.0.1:1\", \"token_file\": ^\"empty\""), "/admin/token_file: "
	                                                                    "expected one line" },
	{ ADMIN("\"listen\": \"127.0.0.1:1\", \"token_file\": ^\".\""), "/admin/token_file: it is "
	                                                                "no regular file" },
	{ DOC("\"admin\": {\"listen\": ^\"127.0.0.1:1\"}, \"listeners\": [{\"name\": \"l\", "
	      "\"listen\": \"127.0.0.1:1\"}]"),
	    "/admin/listen: expected an address that no listener has: \"l\" has it" },
	{ DOC("\"admin\": {\"listen\": ^\"127.0.0.1:1\"}, \"listeners\": [{\"listen\": "
	      "\"0.0.0.0:1\", \"allow_open\": true}]"),
	    "/admin/listen: \"listener-0\" has it" },
	{ AUTH("\"methods\": ^[]"), "/auth/0/methods: expected a list of words that is not empty" },
	{ DOC("\"auth\": [^{\"name\": \"a\"}]"), "/auth/0: the key \"methods\" is missing" },
	{ AUTH("\"methods\": [\"none\"], ^\"ident\": {}"),
	    "/auth/0/ident: expected the method \"ident\"" },
	{ AUTH("\"methods\": [\"none\"], ^\"networks\": [{\"ip_cidr\": [\"::1\"]}]"),
	    "/auth/0/networks: expected the method \"ident\"" },
	{ DOC("\"auth\": [^{\"name\": \"a\", \"methods\": [\"ident\"]}]"),
	    "/auth/0: the method \"ident\" needs \"networks\"" },
	{ IDENT("^[]"), "/auth/0/networks: expected a list of networks that is not empty" },
	{ IDENT("[^1]"), "/auth/0/networks/0: expected an object, found 1" },
	{ IDENT("[^{\"users\": [\"bob\"]}]"), "/auth/0/networks/0: the key \"ip_cidr\" is missing" },
	{ IDENT("[{\"domain\": ^[], \"domain_suffix\": [^\"a b\", ^7, ^\"1.2.3.4\"]}]"),
	    "/auth/0/networks/0/domain: a list of domains that is not empty|"
	    "/auth/0/networks/0/domain_suffix/0: expected a domain|/auth/0/networks/0/domain_suffix/1: found 7|"
	    "/auth/0/networks/0/domain_suffix/2: expected a domain" },
	{ IDENT("[{\"ip_cidr\": ^[]}]"), "/auth/0/networks/0/ip_cidr: a list of IP addresses" },
	{ IDENT("[{\"ip_cidr\": [^\"10.0.0.0/33\"]}]"),
	    "/auth/0/networks/0/ip_cidr/0: expected an IP address or a CIDR block" },
	{ IDENT("[{\"ip_cidr\": [\"::1\"], \"users\": ^[]}]"),
	    "/auth/0/networks/0/users: a list of user names that is not empty" },
	{ IDENT("[{\"ip_cidr\": [\"::1\"], \"users\": [^\"a b\", ^\"a+b\", ^\"\", ^3]}]"),
	    "/auth/0/networks/0/users/0: a user name of 1 to 255 bytes|/auth/0/networks/0/users/1: "
	    "without spaces|/auth/0/networks/0/users/2: found|/auth/0/networks/0/users/3: found 3" },
	{ IDENT("[{\"ip_cidr\": [\"::1\"], \"users\": ^[\"bob\", \"bob\"]}]"),
	    "/auth/0/networks/0/users: found the user \"bob\" twice" },
	{ IDENT("[{\"ip_cidr\": [\"::1\"]}], \"ident\": {\"timeout\": ^\"2m\"}"),
	    "/auth/0/ident/timeout: expected a duration from \"1ms\" to \"1m\"" },
	{ DOC("\"auth\": [{\"name\": \"a\", \"methods\": [\"ident\"], \"networks\": [{\"ip_cidr\": "
	      "[\"10.0.0.0/8\", \"0.0.0.0/0\"]}]}], \"listeners\": [^{\"listen\": \"0.0.0.0:1080\", "
	      "\"auth\": \"a\"}]"),
	    "/listeners/0: \"auth\" with narrower \"networks\" or \"allow_open\": true" },
	{ DOC("\"auth\": [^{\"name\": \"a\", \"methods\": [\"userpass\"]}]"),
	    "/auth/0: needs \"users\" or \"users_file\", found neither" },
	{ AUTH("\"methods\": [\"none\"], ^\"users\": []"), "/auth/0/users: expected the method "
	                                                   "\"userpass\"" },
	{ USERS("{\"name\": ^\"a+b\", \"password_hash\": \"" MARKED_HASH "\"}"), "/auth/0/users/0/name: "
	                                                                  "without '+', found "
	                                                                  "\"a+b\"" },
	{ USERS("{\"name\": \"a\", \"password_hash\": ^\"hunter2\"}"), "/auth/0/users/0/"
	                                                               "password_hash: another "
	                                                               "string (not shown)" },
	{ USERS("{\"name\": \"a\", \"password_hash\": ^\"*0\"}"), "/auth/0/users/0/password_hash: "
	                                                          "expected a hash" },
	{ USERS("{\"name\": \"a\", \"password_hash\": ^5}"), "/auth/0/users/0/password_hash: found "
	                                                     "a number" },
	{ USERS("{\"name\": \"a\", \"password_hash\": \"" MARKED_HASH "\", ^\"password\": \"x\"}"),
	    "/auth/0/users/0/password: unknown key" },
	{ DOC("\"auth\": [^{\"name\": \"a\", \"methods\": [\"userpass\"], \"users\": [{\"name\": "
	      "\"bob\", \"password_hash\": \"" MARKED_HASH "\"}], "
	      "\"users_file\": \"users.json\"}]"),
	    "/auth/0: found the user \"bob\" twice" },
	{ AUTH("\"methods\": [\"userpass\"], \"users_file\": ^\"bad-users.json\""),
	    "/auth/0/users_file: bad-users.json:2:11: /0/name: expected a user name" },
	{ AUTH("\"methods\": [\"userpass\"], \"users_file\": ^\"secret\""), "/auth/0/users_file: "
	                                                                    "secret:1:1: : syntax "
	                                                                    "error" },
	{ AUTH("\"methods\": [\"userpass\"], \"users_file\": ^\"absent\""), "/auth/0/users_file: "
	                                                                    "can't be read" },
};

static const struct faulty upstreams[] = {
	{ UPSTREAM("\"url\": ^5"), "/upstreams/0/url: expected a URL, as a string, found 5" },
	{ UPSTREAM("\"url\": ^\"a:1\""), "/upstreams/0/url: found no \"://\"" },
	{ UPSTREAM("\"url\": ^\"ftp://a:1\""), "/upstreams/0/url: expected one of the schemes "
	                                       "socks4, socks4a," },
	{ UPSTREAM("\"url\": ^\"socks5://\""), "/upstreams/0/url: expected HOST:PORT" },
	{ UPSTREAM("\"url\": ^\"socks5://a:0\""), "/upstreams/0/url: the port is 0" },
	{ UPSTREAM("\"url\": ^\"socks5://a:x\""), "/upstreams/0/url: expected HOST:PORT" },
	{ UPSTREAM("\"url\": ^\"socks5://::1\""), "/upstreams/0/url: expected HOST:PORT" },
	{ UPSTREAM("\"url\": ^\"socks5://u:p@\xe2\x84\x80.a:1\""), "/upstreams/0/url: a form in ASCII" },
	{ UPSTREAM("\"url\": \"https://a\", \"tls\": {\"server_name\": ^\"\xe2\x84\x80.a\"}"),
	    "/upstreams/0/tls/server_name: a form in ASCII" },
	{ UPSTREAM("\"url\": ^\"socks5://a:1/\""), "/upstreams/0/url: found a path" },
	{ UPSTREAM("\"url\": ^\"http://a:1?x\""), "/upstreams/0/url: a query" },
	{ UPSTREAM("\"url\": ^\"http://a:1#x\""), "/upstreams/0/url: a fragment" },
	{ UPSTREAM("\"url\": ^\"socks5://@a:1\""), "/upstreams/0/url: expected a user name" },
	{ UPSTREAM("\"url\": ^\"socks5://u:%zz@a:1\""), "/upstreams/0/url: expected a password" },
	{ UPSTREAM("\"url\": ^\"socks5://u%00:p@a:1\""), "/upstreams/0/url: expected a user name" },
	{ UPSTREAM("\"url\": ^\"direct://a:1\""), "/upstreams/0/url: expected nothing behind "
	                                          "\"direct://\"" },
	{ UPSTREAM("\"url\": \"socks5://u:p@a:1\", ^\"password\": \"q\""), "/upstreams/0/password: "
	                                                                   "a password in the URL "
	                                                                   "and in \"password\"" },
	{ UPSTREAM("\"url\": \"socks5://u:p@a:1\", ^\"password_file\": \"secret\""),
	    "/upstreams/0/password_file: a password in the URL" },
	{ UPSTREAM("\"url\": \"socks5://u@a:1\", ^\"username\": \"q\""), "/upstreams/0/username: a "
	                                                                 "user name in the URL "
	                                                                 "and" },
	{ UPSTREAM("\"url\": \"socks5://u@a:1\", \"password\": \"q\", ^\"password_file\": "
	           "\"secret\""),
	    "/upstreams/0/password_file: found both \"password\" and \"password_file\"" },
	{ UPSTREAM("\"url\": \"socks5://u@a:1\", \"password_file\": ^\"absent\""), "/upstreams/0/"
	                                                                           "password_file: "
	                                                                           "can't be "
	                                                                           "read" },
	{ DOC("\"upstreams\": [^{\"name\": \"u\", \"url\": \"socks4://u:p@a:1\"}]"),
	    "/upstreams/0: SOCKS4 carries a user name only" },
	{ DOC("\"upstreams\": [^{\"name\": \"u\", \"url\": \"socks5://a:1\", \"password\": "
	      "\"p\"}]"),
	    "/upstreams/0: a password without a user name" },
	{ DOC("\"upstreams\": [^{\"name\": \"u\", \"url\": \"http://a:1\", \"username\": "
	      "\"x:y\"}]"),
	    "/upstreams/0: found a ':'" },
	{ DOC("\"upstreams\": [^{\"name\": \"u\", \"url\": \"direct://\", \"username\": \"x\"}]"),
	    "/upstreams/0: credentials for direct://" },
	{ UPSTREAM("\"url\": \"socks5://a:1\", \"username\": ^\"\""), "/upstreams/0/username: a "
	                                                              "string of 1 to 255 bytes" },
	{ UPSTREAM("\"url\": \"socks5://a:1\", \"resolve\": ^\"remote\""), "/upstreams/0/resolve: "
	                                                                   "expected one of "
	                                                                   "\"local\"" },
	{ UPSTREAM("\"url\": \"socks5://a:1\", \"source_address\": ^\"eth0\""), "/upstreams/0/"
	                                                                        "source_address: "
	                                                                        "expected an IPv4 "
	                                                                        "or IPv6 address" },
	{ UPSTREAM("\"url\": \"socks5://10.0.0.1:1\", \"source_address\": ^\"::1\""),
	    "/upstreams/0/source_address: expected an IPv4 address" },
	{ UPSTREAM("\"url\": \"socks5://a:1\", \"interface\": ^\"0123456789abcdef\""),
	    "/upstreams/0/interface: 1 to 15 bytes" },
	{ UPSTREAM("\"url\": \"socks5://a:1\", \"mark\": ^4294967296"), "/upstreams/0/mark: from 0 "
	                                                                "to 4294967295" },
	{ UPSTREAM("\"url\": \"socks5://a:1\", ^\"tls\": {}"), "/upstreams/0/tls: for the scheme "
	                                                       "\"socks5\", expected it for "
	                                                       "socks5+tls" },
	{ UPSTREAM("\"url\": \"https://a\", \"tls\": ^{\"certificate\": \"x\"}"), "/upstreams/0/"
	                                                                          "tls: the key "
	                                                                          "\"key\" is "
	                                                                          "missing" },
	{ UPSTREAM("\"url\": \"https://a\", \"tls\": ^{\"ca\": \"secret\"}"), "/upstreams/0/tls: "
	                                                                      "secret" },
	{ UPSTREAM("\"url\": \"https://a\", \"tls\": {\"verify\": ^\"no\", ^\"cert\": \"x\"}"),
	    "/upstreams/0/tls/verify: expected true or false|/upstreams/0/tls/cert: unknown key" },
	{ UPSTREAM("\"url\": \"socks5://{user}:x@a\", ^\"warm\": 1"),
	    "/upstreams/0/warm: with {user} or {session} in the credentials" },
	{ UPSTREAM("\"url\": \"socks5://a\", ^\"warm\": 1, \"send_proxy\": 2"),
	    "/upstreams/0/warm: with \"send_proxy\"" },
	{ UPSTREAM("\"url\": \"direct://\", ^\"warm\": 1"), "/upstreams/0/warm: direct://" },
	{ UPSTREAM("\"url\": \"direct://\", ^\"fast_open\": true"),
	    "/upstreams/0/fast_open: direct://" },
	{ UPSTREAM("\"url\": \"socks5://a\", ^\"fast_open\": true, \"send_proxy\": 1"),
	    "/upstreams/0/fast_open: with \"send_proxy\"" },
	{ UPSTREAM("\"url\": \"socks5://a\", \"pipeline\": ^1, \"warm\": ^1001, \"warm_max_age\": "
	           "^\"10ms\", \"fast_open\": ^1"),
	    "/upstreams/0/pipeline: expected true or false|/upstreams/0/warm: from 0 to "
	    "1000|/upstreams/0/warm_max_age: from \"1s\"|/upstreams/0/fast_open: expected "
	    "true or false" },
	{ UPSTREAM("\"url\": \"socks5://a\", \"send_proxy\": ^3"),
	    "/upstreams/0/send_proxy: expected an integer from 1 to 2, found 3" },
	{ UPSTREAM("\"url\": \"socks5://a\", \"send_proxy\": ^true"), "/upstreams/0/send_proxy: found true" },
	{ DOC("\"upstreams\": [{\"name\": ^\"direct\", \"url\": \"socks5://a\"}, {\"name\": "
	      "^\"reject\", \"url\": \"socks5://a\"}]"),
	    "/upstreams/0/name: the name \"direct\" is reserved|/upstreams/1/name: the name "
	    "\"reject\" is reserved" },
	{ DOC("\"rules\": [{\"name\": ^\"default\", \"route\": \"direct\"}, {\"name\": "
	      "\"reject\", \"route\": \"direct\"}]"),
	    "/rules/0/name: the name \"default\" is reserved" },
	{ DOC(ROUTES "\"pools\": [{\"name\": ^\"u\", \"members\": [\"v\"]}], \"chains\": "
	             "[{\"name\": ^\"v\", \"hops\": [\"u\"]}]"),
	    "/pools/0/name: the name \"u\" is taken: /upstreams/0|/chains/0/name: the name \"v\" "
	    "is taken: /upstreams/1" },
};

static const struct faulty pools[] = {
	{ DOC(ROUTES "\"pools\": [^{\"name\": \"p\"}]"), "/pools/0: the key \"members\" is "
	                                                 "missing" },
	{ DOC(ROUTES "\"pools\": [{\"name\": \"p\", \"members\": ^[]}]"), "/pools/0/members: "
	                                                                  "expected a list of "
	                                                                  "members that is not "
	                                                                  "empty" },
	{ DOC(ROUTES "\"pools\": [{\"name\": \"p\", \"members\": [\"u\", ^7, ^\"x\", ^\"reject\", "
	             "^{\"weight\": ^257, \"tier\": ^-1}]}]"),
	    "/pools/0/members/1: expected a member|/pools/0/members/2: does not "
	    "exist|/pools/0/members/3: found \"reject\"|"
	    "/pools/0/members/4: the key \"name\" is missing|/pools/0/members/4/weight: from 0 to "
	    "256|/pools/0/members/4/tier: from 0 to 255" },
	{ DOC(ROUTES "\"pools\": [{\"name\": \"p\", \"members\": [\"u\", \"v\", ^{\"name\": "
	             "\"u\"}]}]"),
	    "/pools/0/members/2: found the member \"u\" twice" },
	{ DOC(ROUTES "\"pools\": [{\"name\": \"p\", \"members\": [^\"p\"]}]"), "/pools/0/members/"
	                                                                       "0: the pool \"p\" "
	                                                                       "contains itself by "
	                                                                       "way of \"p\"" },
	{ DOC(ROUTES "\"pools\": [{\"name\": \"p\", \"members\": [\"u\", \"q\"]}, {\"name\": "
	             "\"q\", \"members\": [\"c\"]}], "
	             "\"chains\": [{\"name\": \"c\", \"hops\": [\"v\", ^\"p\"]}]"),
	    "/chains/0/hops/1: the chain \"c\" contains itself by way of \"p\"" },
	{ POOL("\"balance\": \"first\", ^\"hash_key\": \"user\""),
	    "/pools/0/hash_key: \"consistent_hash\" only" },
	{ POOL("\"balance\": \"consistent_hash\", \"hash_key\": ^\"client\""),
	    "/pools/0/hash_key: \"client_ip\"" },
	{ POOL("\"slow_start\": ^\"2h\""), "/pools/0/slow_start: from" },
	{ POOL("\"balance\": ^\"roundrobin\""), "/pools/0/balance: did you mean \"round_robin\"?" },
	{ POOL("\"retry\": {\"attempts\": ^16, \"budget_percent\": ^101}"),
	    "/pools/0/retry/attempts: from 0 to 15|/pools/0/retry/budget_percent: from 0 to 100" },
	{ POOL("\"sticky\": ^{}"), "/pools/0/sticky: the key \"key\" is missing" },
	{ POOL("\"sticky\": {\"key\": ^\"ip\", \"ttl\": ^\"0s\", \"max_entries\": ^0, \"repin\": ^1}"),
	    "/pools/0/sticky/key: \"client_ip\"|/pools/0/sticky/ttl: from|/pools/0/sticky/max_entries: "
	    "from 1|/pools/0/sticky/repin: true or false" },
	{ POOL("\"race\": {\"count\": ^1, \"delay\": ^\"61s\", \"max_extra_percent\": ^701}, "
	       "\"outlier\": {\"failures\": ^0, \"window\": ^\"0s\", "
	       "\"ejection\": ^\"0s\", \"max_ejected_percent\": ^101}, "
	       "\"queue\": {\"max\": ^0, \"timeout\": ^\"0s\"}, \"avoid\": {\"failures\": ^1001, \"for\": ^\"0s\"}"),
	    "/pools/0/race/count: from 2 to 8|/pools/0/race/delay: from|/pools/0/race/max_extra_percent: "
	    "from 0 to 700|/pools/0/outlier/failures: from 1 to "
	    "100|/pools/0/outlier/window: from|/pools/0/outlier/ejection: from|/pools/0/outlier/max_ejected_percent: "
	    "from 0|/pools/0/queue/max: from 1|/pools/0/queue/timeout: from|/pools/0/avoid/failures: "
	    "from 1 to 1000|/pools/0/avoid/for: from" },
	{ POOL("\"health\": ^{}"), "/pools/0/health: the key \"check\" is missing" },
	{ POOL("\"health\": ^{\"check\": \"http\"}"), "/pools/0/health: the check \"http\" needs one" },
	{ POOL("\"health\": {\"check\": \"http\", \"target\": ^\"https://a.example/\"}"),
	    "/pools/0/health/target: expected a URL \"http://host[:port][/path]\"" },
	{ POOL("\"health\": {\"check\": \"http\", \"target\": ^\"http://:80/\"}"),
	    "/pools/0/health/target: expected a URL" },
	{ POOL("\"health\": {\"check\": \"http\", \"target\": ^\"http://a b/\"}"),
	    "/pools/0/health/target: expected a URL" },
	{ POOL("\"health\": {\"check\": \"http\", \"target\": ^\"http://a/x\", \"path\": \"/y\"}"),
	    "/pools/0/health/target: found a path in the URL and in \"path\"" },
	{ POOL("\"health\": {\"check\": \"http\", \"target\": \"http://a\", \"path\": ^\"y\"}"),
	    "/pools/0/health/path: a path that begins with" },
	{ POOL("\"health\": {\"check\": \"http\", \"target\": \"http://a\", \"method\": ^\"GET /\", "
	       "\"host\": ^\"a\\r\\nb\"}"),
	    "/pools/0/health/method: without blanks|/pools/0/health/host: without blanks" },
	{ POOL("\"health\": {\"check\": \"http\", \"target\": \"http://a\", \"expect\": ^99}"),
	    "/pools/0/health/expect: a status from 100 to 599" },
	{ POOL("\"health\": {\"check\": \"http\", \"target\": \"http://a\", \"expect\": [200, "
	       "^\"299-200\", ^\"200\", ^true]}"),
	    "/pools/0/health/expect/1: a range|/pools/0/health/expect/2: a range|/pools/0/health/expect/3: a "
	    "status" },
	{ POOL("\"health\": {\"check\": \"http\", \"target\": \"http://a\", \"expect\": {\"body\": ^\"\", "
	       "\"status\": ^[]}}"),
	    "/pools/0/health/expect/body: 1 to 1024 bytes|/pools/0/health/expect/status: a list of "
	    "statuses" },
	{ POOL("\"health\": {\"check\": \"connect\", \"interval\": \"1s\", \"fast_interval\": ^\"2s\"}"),
	    "/pools/0/health/fast_interval: longer time than \"interval\"" },
	{ POOL("\"health\": {\"check\": \"connect\", \"start\": ^\"sideways\", \"reference\": ^\"a\"}"),
	    "/pools/0/health/start: expected|/pools/0/health/reference: expected \"host:port\"" },
	{ POOL("\"health\": ^{\"check\": \"tunnel\"}"), "/pools/0/health: the key \"target\" is "
	                                                "missing" },
	{ POOL("\"health\": {\"check\": \"connect\", ^\"target\": \"a:1\"}"), "/pools/0/health/"
	                                                                      "target: for the "
	                                                                      "checks \"tunnel\" "
	                                                                      "and \"http\" only" },
	{ POOL("\"health\": {\"check\": \"tunnel\", \"target\": ^\"a\"}"), "/pools/0/health/"
	                                                                   "target: expected "
	                                                                   "\"host:port\"" },
	{ POOL("\"health\": {\"check\": \"connect\", \"interval\": ^\"1ms\", \"rise\": ^0, "
	       "\"fall\": ^1.5, \"jitter\": ^\"101%\", \"timeout\": ^\"2h\"}"),
	    "/pools/0/health/interval: from \"100ms\" to \"24h\"|/pools/0/health/rise: from 1 to "
	    "1000|/pools/0/health/fall: found 1.5|"
	    "/pools/0/health/jitter: from \"0%\" to \"100%\"|/pools/0/health/timeout: found "
	    "\"2h\"" },
	{ POOL("\"health\": {\"check\": \"tunnel\", \"target\": \"a:1\", ^\"method\": \"GET\", ^\"path\": "
	       "\"/\", ^\"host\": \"a\", ^\"expect\": 200}"),
	    "/pools/0/health/method: \"http\" only|/pools/0/health/path: \"http\" "
	    "only|/pools/0/health/host: \"http\" only|/pools/0/health/expect: \"http\" only" },
	{ DOC(ROUTES "\"chains\": [{\"name\": \"c\", \"hops\": ^[]}]"), "/chains/0/hops: expected "
	                                                                "a list of hops that is "
	                                                                "not empty" },
	{ DOC(ROUTES "\"chains\": [{\"name\": \"c\", \"hops\": [^\"direct\", ^\"nope\"]}]"),
	    "/chains/0/hops/0: found \"direct\"|/chains/0/hops/1: found \"nope\", which does not "
	    "exist" },
	{ DOC(ROUTES "\"chains\": [{\"name\": \"c\", \"hops\": [^\"out\", \"u\"]}]"),
	    "/chains/0/hops/0: found \"out\", which may go direct" },
	{ DOC(ROUTES "\"pools\": [{\"name\": \"p\", \"members\": [\"u\", \"direct\"]}], "
	             "\"chains\": [{\"name\": \"c\", \"hops\": [^\"p\"]}]"),
	    "/chains/0/hops/0: found \"p\", which may go direct" },
	{ DOC(ROUTES "\"chains\": [{\"name\": \"c\", \"hops\": [^\"c\"]}]"), "/chains/0/hops/0: "
	                                                                     "the chain \"c\" "
	                                                                     "contains itself by "
	                                                                     "way of \"c\"" },
	{ DOC(ROUTES "\"chains\": [{\"name\": \"c\", \"hops\": ^[\"d\",\"d\",\"d\",\"d\",\"u\"]}, "
	             "{\"name\": \"d\", \"hops\": "
	             "[\"u\",\"v\",\"u\",\"v\"]}]"),
	    "/chains/0/hops: expected paths of at most 16 hops, found one of 17 along \"c\"" },
};

static const struct faulty rest[] = {
	{ DNS("\"servers\": ^[]"), "/dns/servers: expected a list of name servers that is not "
	                           "empty" },
	{ DNS("\"servers\": [\"1.1.1.1\", ^\"ns.example\", ^\"1.1.1.1:53\", ^\"1.1.1.1:0\"]"),
	    "/dns/servers/1: found \"ns.example\"|/dns/servers/2: twice|/dns/servers/3: found "
	    "\"1.1.1.1:0\"" },
	{ DNS("\"timeout\": ^\"0s\", \"attempts\": ^0, \"family\": ^\"ipv5\""),
	    "/dns/timeout: a duration from \"1ms\"|/dns/attempts: from 1 to 10|/dns/family: did "
	    "you mean \"ipv4\"?" },
	{ DNS("\"hosts\": ^[]"), "/dns/hosts: expected an object of host names" },
	{ DNS("\"hosts\": {\"a\": ^[], \"b\": [^\"x\"], ^\"c d\": [\"1.1.1.1\"]}"),
	    "/dns/hosts/a: expected a list of addresses|/dns/hosts/b/0: expected an IPv4 or IPv6 "
	    "address|/dns/hosts/c d: expected a host name" },
	{ DNS("\"hosts\": ^{\"a\": [\"1.1.1.1\"], \"A.\": [\"1.1.1.2\"]}"), "/dns/hosts: found the "
	                                                                    "host \"a\" twice" },
	{ DNS("\"rules\": [{\"domain_suffix\": [^\"a b\", ^1], \"servers\": [\"1.1.1.1\"]}]"),
	    "/dns/rules/0/domain_suffix/0: expected a domain name|/dns/rules/0/domain_suffix/1: "
	    "found 1" },
	{ DNS("\"cache\": {\"max_entries\": ^\"x\", \"min_ttl\": ^0}"), "/dns/cache/max_entries: "
	                                                                "expected an "
	                                                                "integer|/dns/cache/"
	                                                                "min_ttl: found 0" },
	{ DNS("\"cache\": ^{\"min_ttl\": \"2h\"}"), "/dns/cache: expected \"min_ttl\" to be at "
	                                            "most \"max_ttl\"" },
	{ DOC("\"sets\": [^{\"name\": \"s\", \"type\": \"ip\"}]"), "/sets/0: the key \"values\" or "
	                                                           "\"file\" is missing" },
	{ SET("\"type\": \"ip\", \"values\": [], ^\"file\": \"x\""), "/sets/0/file: found both "
	                                                             "\"values\" and \"file\"" },
	{ SET("\"type\": ^\"geoip\", \"file\": \"x\", ^\"countries\": []"),
	    "/sets/0/type: \"geoip\" is known but not|/sets/0/countries: known but not" },
	{ SET("\"type\": ^\"domains\", \"values\": []"), "/sets/0/type: did you mean \"domain\"?" },
	{ SET("\"type\": \"ip\", \"values\": [\"10.0.0.0/8\", ^\"10.0.0.0/33\", ^5]"),
	    "/sets/0/values/1: found \"10.0.0.0/33\"|/sets/0/values/2: expected an address or a "
	    "CIDR block, found 5" },
	{ SET("\"type\": \"domain\", \"values\": ^\"a\""), "/sets/0/values: expected a list of "
	                                                   "entries" },
	{ SET("\"type\": \"domain\", \"values\": [^\"a b\"]"), "/sets/0/values/0: expected a "
	                                                       "domain name, found \"a b\"" },
	{ SET("\"type\": \"domain\", \"file\": ^\"absent\""), "/sets/0/file: absent" },
	{ DOC("\"rules\": [^{}]"), "/rules/0: the key \"route\" is missing" },
	{ DOC("\"rules\": [{\"route\": ^\"x\", \"resolve\": ^1, ^\"limits\": {}}]"),
	    "/rules/0/route: which does not exist|/rules/0/resolve: expected true or "
	    "false|/rules/0/limits: known but not available" },
	{ DOC("\"rules\": [{\"route\": \"direct\", \"match\": {\"listener\": [^\"front\"]}}]"),
	    "/rules/0/match/listener/0: expected the name of a listener, found \"front\"" },
	{ DOC("\"listeners\": [{\"name\": \"front\", \"listen\": \"127.0.0.1:1\"}], "
	      "\"rules\": [{\"route\": \"direct\", \"match\": {\"listener\": [^\"fornt\"]}}]"),
	    "/rules/0/match/listener/0: did you mean \"front\"?" },
	{ DOC("\"rules\": [{\"route\": \"direct\", \"match\": {\"set\": [^\"lan\"]}}]"),
	    "/rules/0/match/set/0: expected the name of a set" },
	{ DOC("\"rules\": [{\"route\": \"direct\", \"match\": {^\"domain_regex\": [\"a\"], "
	      "^\"time\": {}}}]"),
	    "/rules/0/match/domain_regex: known but|/rules/0/match/time: known but" },
	{ DOC("\"rules\": [{\"name\": \"x\", \"route\": \"direct\"}, {\"name\": ^\"x\", \"route\": "
	      "\"direct\"}]"),
	    "/rules/1/name: the name \"x\" is taken" },
};

/* What only the whole shows is told beside what single keys show, and faulty parts lead to no
 * further errors. */
static const struct faulty mixed[] = {
	{ DOC("^\"xyzzy\": 1, \"listeners\": [^{\"listen\": \"0.0.0.0:1\"}, {\"listen\": "
	      "\"0.0.0.0:2\", \"auth\": ^\"x\"}, ^5,"
	      "{\"listen\": ^\"0.0.0.0:0\"}, {\"listen\": \"127.0.0.1:3\"}, {\"listen\": "
	      "^\"127.0.0.1:3\"}], "
	      "\"admin\": ^{\"listen\": ^\"0.0.0.0:2\", ^\"prot\": 1}"),
	    "/xyzzy: unknown key|/listeners/0: lets anybody in|/listeners/1/auth: an auth "
	    "block|/listeners/2: expected an object|"
	    "/listeners/3/listen: the port is 0|/listeners/5/listen: twice|/admin: \"token\" "
	    "or|/admin/listen: \"listener-1\" has it|"
	    "/admin/prot: unknown key" },
	{ DOC(ROUTES "\"pools\": [{\"name\": \"p\", \"members\": [^\"nope\", ^\"p\", \"q\"]}, "
	             "^{\"members\": [\"u\"]}, "
	             "{\"name\": \"q\", \"members\": ^5}], \"chains\": [{\"name\": \"c\", "
	             "\"hops\": [^\"out\", ^7, ^\"direct\", \"u\", ^\"out\"]}]"),
	    "/pools/0/members/0: does not exist|/pools/0/members/1: contains itself|/pools/1: the "
	    "key \"name\" is missing|"
	    "/pools/2/members: expected a list|/chains/0/hops/0: may go direct|/chains/0/hops/1: "
	    "found 7|/chains/0/hops/2: found \"direct\"|"
	    "/chains/0/hops/4: may go direct" },
	{ ADMIN("\"listen\": \"0.0.0.0:1\", \"token\": ^5"), "/admin/token: expected a string" },
	{ "{\"default_route\": ^\"dirct\"}", "/default_route: did you mean \"direct\"?" },
	{ DOC(ROUTES "\"pools\": [{\"name\": \"p\", \"members\": [^\"rejct\"]}]"),
	    "/pools/0/members/0: found \"rejct\", which does not exist" },
	{ DOC(ROUTES "\"pools\": ^{}, \"chains\": [{\"name\": \"c\", \"hops\": [^\"p\"]}]"),
	    "/pools: expected a list of pools|/chains/0/hops/0: does not exist" },
};

/* Several errors at one place. */
static const struct faulty crowded[] = {
	{ DOC("\"listeners\": [{\"name\": \"listener-1\", \"listen\": \"127.0.0.1:1\"}, "
	      "^{\"listen\": \"127.0.0.1:2\"}]"),
	    "/listeners/1: the name \"listener-1\" is taken: /listeners/0" },
	{ USERS("^^{}"), "/auth/0/users/0: the key \"name\" is missing|/auth/0/users/0: the key "
	                 "\"password_hash\" is missing" },
	{ DOC("\"upstreams\": [^^{}]"), "/upstreams/0: the key \"name\" is missing|/upstreams/0: "
	                                "the key \"url\" is missing" },
	{ DNS("\"rules\": [^^{}]"), "/dns/rules/0: the key \"domain_suffix\" is "
	                            "missing|/dns/rules/0: the key \"servers\" is missing" },
	{ SET("\"type\": \"ip\", \"file\": ^^\"two-lines\""), "/sets/0/file: "
	                                                      "two-lines:1|/sets/0/file: "
	                                                      "two-lines:2" },
};

static void
expect_all(const struct faulty *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		marked_expect(cases[i].text, NULL, cases[i].want);
}

#define FAULT_TEST(table)                                                                          \
	static void test_faults_in_##table(void **state)                                           \
	{                                                                                          \
		(void)state;                                                                       \
		expect_all(table, ARRAY_LEN(table));                                               \
	}
FAULT_TEST(documents)
FAULT_TEST(listeners)
FAULT_TEST(doors)
FAULT_TEST(upstreams)
FAULT_TEST(pools)
FAULT_TEST(rest)
FAULT_TEST(mixed)
FAULT_TEST(crowded)

/* A fault in each of 10,000 rules, each with a name to look for: bounded in number and in time. */
static void
test_many_faults(void **state)
{
	(void)state;
	enum { N = 10000 };
	struct policy_errors errors;
	char *text = malloc(N * 160);
	size_t len = 0;
	assert_non_null(text);
	len += (size_t)sprintf(text, "{\"upstreams\": [");
	for (int i = 0; i < N; i++)
		len += (size_t)sprintf(text + len,
		    "%s{\"name\": \"upstream-%d\", \"url\": \"socks5://10.0.0.1:1\"}",
		    i > 0 ? "," : "", i);
	len += (size_t)sprintf(text + len, "], \"rules\": [");
	for (int i = 0; i < N; i++)
		len += (size_t)sprintf(
		    text + len, "%s{\"route\": \"upsteam-%d\"}", i > 0 ? "," : "", i);
	sprintf(text + len, "], \"default_route\": \"direct\"}");
	assert_null(marked_load(text, NULL, &errors));
	assert_int_equal(errors.n, POLICY_ERRORS_MAX);
	assert_int_equal(errors.dropped, N - POLICY_ERRORS_MAX);
	assert_non_null(strstr(errors.list[0].message, "did you mean \"upstream-0\"?"));
	policy_errors_free(&errors);
	free(text);
}

/* Pools within pools: the bound holds whichever end is looked at first, and no shape makes the walk
 * long. */
static void
test_deep_nesting(void **state)
{
	(void)state;
	enum { N = 3000 };
	char want[64];
	for (int upwards = 0; upwards < 2; upwards++) {
		struct policy_errors errors;
		char *text = malloc(N * 80);
		size_t len = 0;
		assert_non_null(text);
		len += (size_t)sprintf(text, "{\"pools\": [");
		for (int i = 0; i < N; i++) {
			int self = upwards ? i : N - 1 - i;
			len += (size_t)sprintf(text + len, "%s{\"name\": \"p%d\", \"members\": [",
			    i > 0 ? "," : "", self);
			len += (size_t)(self == N - 1 ? sprintf(text + len, "\"direct\"]}")
			                              : sprintf(text + len, "\"p%d\"]}", self + 1));
		}
		sprintf(text + len, "], \"default_route\": \"direct\"}");
		assert_null(marked_load(text, NULL, &errors));
		snprintf(want, sizeof want, "at most %d pools and ", POLICY_PICKS_MAX);
		assert_non_null(strstr(errors.list[0].message, want));
		policy_errors_free(&errors);
		free(text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults_in_documents),
		cmocka_unit_test(test_faults_in_listeners),
		cmocka_unit_test(test_faults_in_doors),
		cmocka_unit_test(test_faults_in_upstreams),
		cmocka_unit_test(test_faults_in_pools),
		cmocka_unit_test(test_faults_in_rest),
		cmocka_unit_test(test_faults_in_mixed),
		cmocka_unit_test(test_faults_in_crowded),
		cmocka_unit_test(test_many_faults),
		cmocka_unit_test(test_deep_nesting),
	};
	return cmocka_run_group_tests(tests, marked_make_files, marked_remove_files);
}
