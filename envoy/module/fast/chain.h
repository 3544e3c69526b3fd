#pragma once
#include <stdbool.h>
#include <stddef.h>

typedef struct { const char *ptr; size_t length; } buffer;

enum { hubgate_max_certificates = 10, hubgate_max_chain = 32 << 10 }; // bytes of DER

#pragma GCC visibility push(hidden)
// The chain as hubgate reads it: DER in base64, separated by commas, in the
// order in which it came. One over a bound becomes ";truncated": hubgate then
// goes by the leaf, the fingerprints of the rest, and the intermediates that it
// knows. The caller frees it; without memory it is NULL.
char *hubgate_encode_chain(const buffer *certificates, size_t n, size_t *length);
#pragma GCC visibility pop
