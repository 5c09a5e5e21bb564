#include "base/letters.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

TEST(Letters, OfAsciiAlone) {
  EXPECT_EQ(lower_case("Apache-2.0 \xC3\x84[Z]"), "apache-2.0 \xC3\x84[z]");
  EXPECT_EQ(lower_case("@[`{"), "@[`{");  // beside the letters
  EXPECT_TRUE(equal_letters("Q4_K_M", "q4_k_m"));
  EXPECT_FALSE(equal_letters("Q4_K", "q4_k_m"));
  EXPECT_FALSE(equal_letters("\xC3\x84", "\xC3\xA4"));
}

}  // namespace
}  // namespace retort
