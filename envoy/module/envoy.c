#include "_cgo_export.h"
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#define TEXT(s) ((buffer){s, sizeof(s) - 1})

buffer hubgate_epoch;

// Go's runtime has a thread that looks after the others, every 20 µs for as
// long as Envoy's threads keep coming and going. Here, once in a while does: they
// never wait for each other. So the threads that the runtime is about to start
// inherit timers that may be late by up to 10 ms, which is as rarely as that
// thread looks when Go is idle. prctl(2), PR_SET_TIMERSLACK.
static unsigned long slack;

__attribute__((constructor(101))) static void before_go(void) { // the priority: before Go's own
  int usual = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
  if (usual <= 0) return;
  slack = (unsigned long)usual;
  prctl(PR_SET_TIMERSLACK, 10 * 1000 * 1000, 0, 0, 0);
}

void hubgate_after_go(void) { // Envoy's thread is to be as it was
  if (slack) prctl(PR_SET_TIMERSLACK, slack, 0, 0, 0);
}

// The validator.

verdict envoy_dynamic_module_on_cert_validator_do_verify_cert_chain(
    E e, uintptr_t m, const buffer *certificates, size_t n, buffer host, bool server) {
  (void)m, (void)host, (void)server;
  size_t length;
  char *chain = hubgate_encode_chain(certificates, n, &length);
  if (!chain) return (verdict){.status = 1};
  envoy_dynamic_module_callback_cert_validator_set_filter_state(e, TEXT("hubgate.chain"), (buffer){chain, length});
  free(chain);
  return (verdict){0}; // let it pass as "not validated": hubgate decides
}

int envoy_dynamic_module_on_cert_validator_get_ssl_verify_mode(uintptr_t m, bool handshaker) {
  (void)m, (void)handshaker;
  return 1; // ask; hubgate tells those who have none
}

void envoy_dynamic_module_on_cert_validator_update_digest(uintptr_t m, buffer *out) {
  (void)m;
  *out = TEXT("hubgate chain 1"); // to change when the validator does
}

void envoy_dynamic_module_on_cert_validator_config_destroy(uintptr_t m) { (void)m; }

// Waiting for the CONNECT.

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

settings *hubgate_settings(uintptr_t handle, int64_t timeout, bool ahead) {
  settings *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->handle = handle;
  s->timeout = timeout;
  s->ahead = ahead;
  pthread_mutex_init(&s->mu, NULL);
  return s;
}

static void await(connection *c) {
  settings *s = c->settings;
  c->deadline = now() + s->timeout;
  pthread_mutex_lock(&s->mu);
  c->waits = true;
  c->before = s->last;
  if (s->last) s->last->after = c;
  else s->first = c;
  s->last = c;
  pthread_mutex_unlock(&s->mu);
}

// The lock is held.
static void leave(connection *c) {
  settings *s = c->settings;
  if (!c->waits) return;
  c->waits = false;
  if (c->before) c->before->after = c->after;
  else s->first = c->after;
  if (c->after) c->after->before = c->before;
  else s->last = c->before;
  c->before = c->after = NULL;
}

static void await_no_more(connection *c) {
  if (!c->settings->timeout) return;
  pthread_mutex_lock(&c->settings->mu);
  leave(c);
  pthread_mutex_unlock(&c->settings->mu);
}

void hubgate_expire(settings *s) {
  int64_t at = now();
  for (bool more = true; more;) {
    pthread_mutex_lock(&s->mu); // never for long
    for (int i = 0; i < 16 && (more = s->first && s->first->deadline <= at); i++) {
      connection *c = s->first;
      leave(c);
      envoy_dynamic_module_callback_network_filter_scheduler_commit(c->scheduler, late);
    }
    pthread_mutex_unlock(&s->mu);
  }
}

// A hook's bytes.

buffer *hubgate_chunks(E e, bool write, size_t *n) {
  static __thread buffer *list;
  static __thread size_t room;
  size_t need = write ? envoy_dynamic_module_callback_network_filter_get_write_buffer_chunks_size(e)
                      : envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks_size(e);
  *n = 0;
  if (need > room) {
    buffer *more = realloc(list, need * sizeof *list);
    if (!more) return NULL;
    list = more;
    room = need;
  }
  if (need && (write ? envoy_dynamic_module_callback_network_filter_get_write_buffer_chunks(e, list)
                     : envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks(e, list)))
    *n = need;
  return list;
}

void hubgate_drain(E e, bool write, size_t n) {
  if (write) envoy_dynamic_module_callback_network_filter_drain_write_buffer(e, n);
  else envoy_dynamic_module_callback_network_filter_drain_read_buffer(e, n);
}

void hubgate_put(E e, bool write, buffer b) {
  if (write) envoy_dynamic_module_callback_network_filter_append_write_buffer(e, b);
  else envoy_dynamic_module_callback_network_filter_append_read_buffer(e, b);
}

// plain lets bytes pass that Go need not see.
static bool plain(E e, bool write, scanner *s, uint8_t passing, size_t n) {
  if (passing != scan) return passing == pass;
  scanner ahead = *s; // Go has to find it where it was
  if (ahead.part == hubgate_in_body && n < ahead.body) { // in the midst of a packet
    s->body -= (uint32_t)n;
    return true;
  }
  size_t count;
  buffer *list = hubgate_chunks(e, write, &count);
  for (size_t i = 0; i < count; i++)
    if (!hubgate_scan(&ahead, list[i].ptr, list[i].length, write)) return false;
  *s = ahead;
  return true;
}

// The filter.

connection *envoy_dynamic_module_on_network_filter_new(settings *s, E e) {
  (void)e; // cannot do anything yet
  connection *c = calloc(1, sizeof *c);
  if (c) c->settings = s;
  return c; // without one, Envoy closes the connection
}

int envoy_dynamic_module_on_network_filter_new_connection(E e, connection *c) {
  c->scheduler = envoy_dynamic_module_callback_network_filter_scheduler_new(e);
  // There is no handshake to wait for, and the session's filter sets the epoch.
  if (c->settings->ahead) await(c);
  else envoy_dynamic_module_callback_network_set_filter_state_bytes(e, TEXT("hubgate.epoch"), hubgate_epoch);
  return 0;
}

int envoy_dynamic_module_on_network_filter_read(E e, connection *c, size_t n, bool end) {
  __atomic_store_n(&c->shared.active, 1, __ATOMIC_RELAXED);
  if (plain(e, false, &c->shared.from_device, c->shared.device, n)) return 0;
  if (!c->scheduler) return 1; // closed
  int stop = hubgateRead(e, c, n, end);
  if (c->shared.device != ask) await_no_more(c);
  return stop;
}

int envoy_dynamic_module_on_network_filter_write(E e, connection *c, size_t n, bool end) {
  (void)end; // the broker's end of stream passes
  if (plain(e, true, &c->shared.from_broker, c->shared.broker, n)) return 0;
  if (!c->handle) return c->settings->timeout != 0; // no broker is there yet
  return hubgateWrite(e, c, n);
}

static void closed(connection *c) {
  if (!c->scheduler) return;
  await_no_more(c);
  if (c->handle) hubgateClosed(c);
  // This has to come before Envoy begins to drop the filter: a commit holds it
  // for a moment, and would otherwise be the last to, and destroy it on a thread
  // that is not its own.
  envoy_dynamic_module_callback_network_filter_scheduler_delete(c->scheduler);
  c->scheduler = NULL;
}

void envoy_dynamic_module_on_network_filter_event(E e, connection *c, int event) {
  if (event == remote_close || event == local_close) closed(c);
  else if (!c->settings->timeout) hubgateConnected(e, c);
  else if (!c->waits && c->shared.device == ask) await(c);
}

void envoy_dynamic_module_on_network_filter_scheduled(E e, connection *c, uint64_t why) {
  if (c->handle) hubgateScheduled(e, c, why == late);
  else if (c->scheduler && why == late)
    envoy_dynamic_module_callback_network_filter_close_with_details(e, no_flush, TEXT("hubgate_connect_timeout"));
}

void envoy_dynamic_module_on_network_filter_destroy(connection *c) {
  closed(c);
  free(c);
}
