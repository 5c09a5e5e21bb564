#include "plan/machines.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace retort {
namespace {

std::string refusal(const std::string& text) {
  try {
    parse_machines(text, "m.yaml");
  } catch (const RecipeError& error) { return error.what(); }
  return "";
}

}  // namespace

TEST(Machines, AreReadWithTheirUnits) {
  const auto all = rank_machines(parse_machines("machines:\n"
                                                "  - {name: large, threads: 16, memory: 64GiB, ranks: 2}\n"
                                                "  - name: small\n"
                                                "    count: 2\n"
                                                "    threads: 4\n"
                                                "    memory: 8GB\n"
                                                "    link_gbit: 1\n"
                                                "    latency_us: 20\n"
                                                "    copy_gbytes: 3\n",
                                                "m.yaml"),
                                 7e9);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].name, "large");
  EXPECT_EQ(all[0].ranks, 2);
  EXPECT_EQ(all[0].memory, uint64_t{64} << 30);
  EXPECT_DOUBLE_EQ(all[0].link, 1.25e9);  // 10 Gbit/s unless said
  EXPECT_DOUBLE_EQ(all[0].latency, 50e-6);
  EXPECT_DOUBLE_EQ(all[0].copying, 7e9);
  EXPECT_EQ(all[1].name, "small-1");
  EXPECT_EQ(all[2].name, "small-2");
  EXPECT_EQ(all[2].ranks, 0);
  EXPECT_EQ(all[2].threads, 4);
  EXPECT_EQ(all[2].memory, 8'000'000'000u);
  EXPECT_DOUBLE_EQ(all[2].link, 1.25e8);
  EXPECT_DOUBLE_EQ(all[2].latency, 20e-6);
  EXPECT_DOUBLE_EQ(all[2].copying, 3e9);
}

TEST(Machines, ProblemsAreNamedWithTheirPlace) {
  EXPECT_EQ(refusal("machines:\n  - {name: a, threads: 2, memory: 3}\n"),
            "m.yaml:2:35: machines[0].memory: expected a size with a unit, like 64GiB, found '3'\n"
            "1 problem; nothing was loaded or written.");
  EXPECT_NE(refusal("machines:\n  - {name: a, thraeds: 2, memory: 3GB}\n")
                .find("unknown key; did you mean 'threads'?"),
            std::string::npos);
  EXPECT_NE(refusal("machines:\n  - {name: a, memory: 3GB}\n").find("machines[0].threads: missing; expected"),
            std::string::npos);
  EXPECT_NE(refusal("hosts: []\n").find("a list has `machines`, and each of these name, count"),
            std::string::npos);
  EXPECT_NE(refusal("machines: []\n").find("machines: missing; expected a list of machines"),
            std::string::npos);
}

}  // namespace retort
