#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A mqtt.Scanner, in its layout.
enum { hubgate_at_first, hubgate_in_length, hubgate_in_body };
typedef struct { uint32_t body; uint8_t shift, part; bool greeted; } scanner;

#pragma GCC visibility push(hidden)
// Reads n bytes on, unless Go has to see them: a packet that is a CONNECT where
// none may be, or a length that makes no sense. It then reports false; how far
// s has come by then is undefined.
bool hubgate_scan(scanner *s, const char *b, size_t n, bool connects);
#pragma GCC visibility pop
