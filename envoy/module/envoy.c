#include "_cgo_export.h"
#include <stdlib.h>

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

connection *envoy_dynamic_module_on_network_filter_new(uintptr_t settings, E e) {
  (void)e; // cannot do anything yet
  connection *c = calloc(1, sizeof *c);
  if (c) c->settings = settings;
  return c; // without one, Envoy closes the connection
}

void envoy_dynamic_module_on_network_filter_destroy(connection *c) {
  if (c->handle) hubgateClosed(c);
  free(c);
}

int envoy_dynamic_module_on_network_filter_read(E e, connection *c, size_t n, bool end) {
  __atomic_store_n(&c->shared.active, 1, __ATOMIC_RELAXED);
  if (plain(e, false, &c->shared.from_device, c->shared.device, n)) return 0;
  return c->handle ? hubgateRead(e, c, n, end) : 1;
}

int envoy_dynamic_module_on_network_filter_write(E e, connection *c, size_t n, bool end) {
  (void)end; // the broker's end of stream passes
  if (plain(e, true, &c->shared.from_broker, c->shared.broker, n)) return 0;
  return c->handle ? hubgateWrite(e, c, n) : 1;
}

void envoy_dynamic_module_on_network_filter_event(E e, connection *c, int event) {
  if (!c->handle) return;
  if (event == remote_close || event == local_close) hubgateClosed(c);
  else hubgateConnected(e, c);
}

void envoy_dynamic_module_on_network_filter_scheduled(E e, connection *c, uint64_t id) {
  (void)id; // there is one reason only
  if (c->handle) hubgateScheduled(e, c);
}
