/*
 * events: GET /v1/events, the router's events as server-sent events, for several clients at once.
 *
 * A stream is a response of libmicrohttpd whose connection is suspended while there is nothing to
 * say. One thread, the feed's, sleeps until an event is posted, a suspended client leaves or a
 * heartbeat is due, and resumes those whom it concerns; reading the ring and writing are the HTTP
 * thread's. Nobody waits for a client that does not read: it loses the oldest and is told how many.
 * Life: event_feed_new -> streams -> event_feed_end (all end) -> event_feed_free, when the HTTP
 * server has stopped.
 */
#ifndef ADMIN_EVENTS_H
#define ADMIN_EVENTS_H

struct control;
struct event_feed;

enum { EVENT_STREAMS_MAX = 32, EVENT_HEARTBEAT_MS = 15000 };

/** NULL: no memory, descriptor or thread. */
struct event_feed *event_feed_new(struct control *c);
/** Ends all streams and lets nobody begin one. By the thread that made it; again is nothing. */
void event_feed_end(struct event_feed *f);
void event_feed_free(struct event_feed *f); /* NULL is fine; ends first; no stream is left */

#endif
