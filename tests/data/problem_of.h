// The line with which a source is refused.
#pragma once
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "data/rows.h"

namespace retort {

// "" where it is read.
inline std::string problem_of(const SourceSpec& spec) {
  try {
    read_records(spec, 0);
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::bad_input);
    return error.what();
  }
  return "";
}

}  // namespace retort
