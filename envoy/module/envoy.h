// The part of Envoy's ABI for dynamic modules (v0.2.0, Envoy 1.40) that this
// library uses. E is a pointer of Envoy's, only passed back to it.
#pragma once
#include "fast/chain.h"
#include "fast/scan.h"
#include <pthread.h>

typedef void *E;
typedef struct { int32_t status, detail; uint8_t alert; bool has_alert; } verdict;

enum { remote_close, local_close }; // the other events are about the handshake
enum { flush, no_flush };           // how to close

void envoy_dynamic_module_callback_log(int level, buffer text);
uint32_t envoy_dynamic_module_callback_get_concurrency(void);
bool envoy_dynamic_module_callback_is_validation_mode(void);
bool envoy_dynamic_module_callback_cert_validator_set_filter_state(E, buffer key, buffer value);
bool envoy_dynamic_module_callback_network_set_filter_state_bytes(E, buffer key, buffer value);
bool envoy_dynamic_module_callback_network_get_dynamic_metadata_string(E, buffer space, buffer key, buffer *out);
uint64_t envoy_dynamic_module_callback_network_filter_get_connection_id(E);
size_t envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks_size(E);
bool envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks(E, buffer *out);
bool envoy_dynamic_module_callback_network_filter_drain_read_buffer(E, size_t n);
bool envoy_dynamic_module_callback_network_filter_append_read_buffer(E, buffer);
size_t envoy_dynamic_module_callback_network_filter_get_write_buffer_chunks_size(E);
bool envoy_dynamic_module_callback_network_filter_get_write_buffer_chunks(E, buffer *out);
bool envoy_dynamic_module_callback_network_filter_drain_write_buffer(E, size_t n);
bool envoy_dynamic_module_callback_network_filter_append_write_buffer(E, buffer);
void envoy_dynamic_module_callback_network_filter_inject_read_data(E, buffer, bool end);
void envoy_dynamic_module_callback_network_filter_inject_write_data(E, buffer, bool end);
int envoy_dynamic_module_callback_network_filter_read_disable(E, bool);
void envoy_dynamic_module_callback_network_filter_close_with_details(E, int how, buffer why);
E envoy_dynamic_module_callback_network_filter_scheduler_new(E);
void envoy_dynamic_module_callback_network_filter_scheduler_commit(E scheduler, uint64_t id);
void envoy_dynamic_module_callback_network_filter_scheduler_delete(E scheduler);

// What is known of a connection without asking Go: filter.Shared, in its layout.
typedef struct { scanner from_device, from_broker; uint32_t active; uint8_t device, broker; } shared;
enum { ask, pass, scan };

// Our own end of a connection. Its handle is Go's, 0 as long as Go knows nothing
// of it: until hubgate has let it in, in front of a broker.
typedef struct connection connection;
struct connection {
  shared shared;
  struct settings *settings;
  uintptr_t handle;
  E scheduler; // NULL once it is closed
  // Its place among those that have not sent their CONNECT yet.
  int64_t deadline;
  connection *before, *after;
  bool waits;
};

// Our own end of a filter's configuration. All its connections wait as long, so
// that the one that began first is the first to be late.
typedef struct settings {
  uintptr_t handle;   // Go's
  int64_t timeout;    // of the CONNECT, in nanoseconds; 0 in front of HTTP
  bool ahead;         // its filter reads the CONNECT before the check, where there is no TLS
  pthread_mutex_t mu; // what follows
  connection *first, *last;
} settings;

enum { ordered, late }; // why Envoy calls scheduled

#pragma GCC visibility push(hidden)
extern buffer hubgate_epoch;
void hubgate_after_go(void);
settings *hubgate_settings(uintptr_t handle, int64_t timeout, bool ahead);
// Wakes those that have not sent their CONNECT in time.
void hubgate_expire(settings *);
// These change what the next filter gets of a hook's bytes.
void hubgate_drain(E, bool write, size_t n);
void hubgate_put(E, bool write, buffer);
// The pieces of the hook's bytes; the list is the thread's until it asks again.
buffer *hubgate_chunks(E, bool write, size_t *n);
#pragma GCC visibility pop
