#include "base/byte_size.h"

#include <gtest/gtest.h>

namespace retort {

TEST(ByteSize, TakesUnitsOfBothKinds) {
  EXPECT_EQ(byte_size("700MiB"), 700u << 20);
  EXPECT_EQ(byte_size("1.5 GiB"), 3u << 29);
  EXPECT_EQ(byte_size("800mb"), 800000000u);
  EXPECT_EQ(byte_size("64B"), 64u);
  EXPECT_EQ(byte_size("4TB"), 4000000000000u);
  EXPECT_EQ(byte_size("1TiB"), uint64_t{1} << 40);
}

TEST(ByteSize, RefusesWhatIsNoSize) {
  for (const auto* text :
       {"", "700", "MiB", "-1MiB", "0MiB", "1 MiB more", "1e3MiB", "nanGiB", "9999999999999GiB"})
    EXPECT_FALSE(byte_size(text)) << text;
}

}  // namespace retort
