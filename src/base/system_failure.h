// What errno says about an error: whose it is, and whether it may pass.
#pragma once
#include <filesystem>
#include <string>

#include "base/error.h"

namespace retort {

// bad_input: the name or its permissions are wrong, which whoever gave the name can mend. machine: a system
// call failed for another reason. passing: it may well work a while later (a disk that is full, a server of
// files that does not answer, memory that others hold), so that it is worth trying again.
enum class Trouble { bad_input, machine, passing };
Trouble trouble_of(int error_number);

// A failure of the machine that may pass.
struct PassingFailure : Failure {
  using Failure::Failure;
};

// "MESSAGE: WORDS OF THE ERROR". What is read from outside: FormatError where the name is wrong. What is
// written in a place of ours: never a bad input. Both: PassingFailure where the error may pass.
[[noreturn]] void throw_reading(const std::string& message, int error_number);
[[noreturn]] void throw_writing(const std::string& message, int error_number);
[[noreturn]] void throw_writing(const std::filesystem::filesystem_error& error);

}  // namespace retort
