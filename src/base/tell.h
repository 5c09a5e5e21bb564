// What is only told: lines for people on standard error.
#pragma once
#include <cstdio>
#include <string_view>

namespace retort {

// Writes TEXT and a line's end. An output that is full, closed or a broken pipe loses the line and ends
// nothing: what is told about work is never worth the work.
void tell(std::string_view text, std::FILE* out = stderr);

// Once, at the start of the program: a broken pipe becomes an error of the write instead of a signal, a file
// beyond its limit too, and where standard input, output or error are closed their numbers are taken, so that
// no file that is opened later gets what was meant for them.
void keep_outputs_apart();

}  // namespace retort
