#include "envoy.h"
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
