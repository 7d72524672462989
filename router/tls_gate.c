#include "router/tls_gate.h"

static struct tls_pass *
pass_at(struct list *link)
{
	return LIST_OBJECT(link, struct tls_pass, link);
}

static void
let_in(struct tls_pass *p)
{
	struct tls_gate *g = p->gate;
	list_remove(&p->link);
	list_append(&g->inside, &p->link);
	p->inside = true;
	p->since_ms = loop_now(g->loop);
	g->n_inside++;
	counter_add(g->counters, COUNTER_TLS_OPEN, 1);
}

static void
wait_outside(struct tls_pass *p)
{
	struct tls_gate *g = p->gate;
	list_append(&g->outside, &p->link);
	counter_add(g->counters, COUNTER_TLS_WAITS, 1);
	if (!deadline_armed(&g->look))
		loop_set_deadline(g->loop, &g->look, TLS_GATE_LOOK_MS);
}

/* What it waited for a step is our time, not its own. */
static void
on_step(struct turn_step *s)
{
	struct tls_pass *p = CONTAINER_OF(s, struct tls_pass, step);
	p->since_ms += loop_now(p->gate->loop) - s->queued_ms;
	p->told(p->arg, true);
}

static void
on_room(struct loop_task *t)
{
	struct tls_gate *g = CONTAINER_OF(t, struct tls_gate, room);
	while (g->n_inside < TLS_GATE_MAX && !list_empty(&g->outside)) {
		struct tls_pass *p = pass_at(g->outside.next);
		let_in(p);
		turn_share_wait(&g->share, &p->step);
	}
	turn_share_call(&g->share);
}

static bool
stalls(const struct tls_pass *p, uint64_t now_ms)
{
	return !turn_step_waits(&p->step) && now_ms - p->since_ms >= TLS_GATE_PATIENCE_MS;
}

static void
make_room(struct tls_gate *g)
{
	unsigned wanted = 0;
	for (const struct list *l = g->outside.next; l != &g->outside; l = l->next)
		wanted++;
	uint64_t now = loop_now(g->loop);
	struct list *next;
	for (struct list *l = g->inside.next; l != &g->inside && wanted > 0; l = next) {
		struct tls_pass *p = pass_at(l);
		next = l->next;
		if (!stalls(p, now))
			continue;
		wanted--;
		counter_add(g->counters, COUNTER_TLS_SHED, 1);
		p->told(p->arg, false);
	}
}

static void
on_look(struct deadline *d)
{
	struct tls_gate *g = CONTAINER_OF(d, struct tls_gate, look);
	if (list_empty(&g->outside))
		return;
	make_room(g);
	loop_set_deadline(g->loop, d, TLS_GATE_LOOK_MS);
}

bool
tls_gate_may_step(struct tls_pass *p)
{
	struct tls_gate *g = p->gate;
	if (!p->inside && list_linked(&p->link))
		return false;
	if (!p->inside && (g->n_inside >= TLS_GATE_MAX || !list_empty(&g->outside))) {
		wait_outside(p);
		return false;
	}
	if (!p->inside)
		let_in(p);
	return turn_share_may_step(&g->share, &p->step);
}

void
tls_gate_note_step(struct tls_pass *p, uint64_t us)
{
	turn_share_note(&p->gate->share, us);
}

void
tls_pass_init(struct tls_pass *p, struct tls_gate *g, tls_pass_cb *told, void *arg)
{
	*p = (struct tls_pass){ .gate = g, .told = told, .arg = arg };
	list_init(&p->link);
	turn_step_init(&p->step, on_step);
}

void
tls_pass_give_back(struct tls_pass *p)
{
	struct tls_gate *g = p->gate;
	if (g == NULL || !list_linked(&p->link))
		return;
	list_remove(&p->link);
	turn_step_drop(&p->step);
	if (!p->inside)
		return;
	p->inside = false;
	g->n_inside--;
	counter_sub(g->counters, COUNTER_TLS_OPEN, 1);
	if (!list_empty(&g->outside))
		loop_defer(g->loop, &g->room);
}

void
tls_gate_init(struct tls_gate *g, struct loop *l, struct counters *c)
{
	*g = (struct tls_gate){ .loop = l, .counters = c };
	list_init(&g->inside);
	list_init(&g->outside);
	turn_share_init(&g->share, l, TLS_GATE_TURN_US);
	loop_task_init(&g->room, on_room);
	deadline_init(&g->look, on_look);
}

void
tls_gate_free(struct tls_gate *g)
{
	if (g->loop == NULL)
		return;
	turn_share_free(&g->share);
	loop_undefer(g->loop, &g->room);
	loop_clear_deadline(g->loop, &g->look);
}
