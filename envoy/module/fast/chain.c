#include "chain.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *encode(char *out, const uint8_t *b, size_t n) {
  for (; n >= 3; b += 3, n -= 3) {
    uint32_t v = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
    *out++ = digits[v >> 18];
    *out++ = digits[v >> 12 & 63];
    *out++ = digits[v >> 6 & 63];
    *out++ = digits[v & 63];
  }
  if (n > 0) {
    uint32_t v = (uint32_t)b[0] << 16 | (n > 1 ? (uint32_t)b[1] << 8 : 0);
    *out++ = digits[v >> 18];
    *out++ = digits[v >> 12 & 63];
    *out++ = n > 1 ? digits[v >> 6 & 63] : '=';
    *out++ = '=';
  }
  return out;
}

char *hubgate_encode_chain(const buffer *certificates, size_t n, size_t *length) {
  static const char truncated[] = ";truncated";
  size_t bytes = 0;
  for (size_t i = 0; i < n && bytes <= hubgate_max_chain; i++) bytes += certificates[i].length;
  bool over = n > hubgate_max_certificates || bytes > hubgate_max_chain;
  char *out = malloc(over ? sizeof truncated : bytes / 3 * 4 + 5 * n + 1);
  *length = 0;
  if (!out) return NULL;
  if (over) {
    *length = sizeof truncated - 1;
    return memcpy(out, truncated, *length);
  }
  char *end = out;
  for (size_t i = 0; i < n; i++) {
    if (i > 0) *end++ = ',';
    end = encode(end, (const uint8_t *)certificates[i].ptr, certificates[i].length);
  }
  *length = (size_t)(end - out);
  return out;
}
