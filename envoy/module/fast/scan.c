#include "scan.h"

bool hubgate_scan(scanner *s, const char *b, size_t n, bool connects) {
  while (n > 0) {
    uint8_t c = (uint8_t)*b;
    switch (s->part) {
    case hubgate_at_first:
      if (!connects && (c & 0xF0) == 0x10) return false;
      if ((c & 0xF0) == 0x20) s->greeted = true;
      s->body = 0;
      s->shift = 0;
      s->part = hubgate_in_length;
      b++, n--;
      break;
    case hubgate_in_length:
      if (s->shift == 28) return false;
      s->body |= (uint32_t)(c & 0x7F) << s->shift;
      s->shift += 7;
      if (c < 0x80) s->part = s->body ? hubgate_in_body : hubgate_at_first;
      b++, n--;
      break;
    default: {
      size_t skip = n < s->body ? n : s->body;
      s->body -= (uint32_t)skip;
      if (!s->body) s->part = hubgate_at_first;
      b += skip, n -= skip;
    }
    }
  }
  return true;
}
