// Stands in for llama.cpp's ggml.h, of which its wrapper around JSON wants one macro.
#pragma once
#define GGML_ASSERT(condition) ((condition) ? (void)0 : __builtin_trap())
