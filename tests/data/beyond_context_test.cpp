#include "data/beyond_context.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace retort {
namespace {

Dataset of_lengths(const std::vector<size_t>& train, const std::vector<size_t>& held_out) {
  const auto samples = [](const std::vector<size_t>& lengths, const std::string& file) {
    std::vector<Sample> all;
    for (const auto length : lengths) {
      Sample sample;
      sample.tokens.assign(length, 5), sample.weights.assign(length, 1);
      sample.id = file + ":" + std::to_string(all.size() + 1);
      all.push_back(std::move(sample));
    }
    return all;
  };
  Dataset dataset;
  dataset.train = samples(train, "a.jsonl"), dataset.held_out = samples(held_out, "b.jsonl");
  return dataset;
}

std::string refusal(const Dataset& dataset, int64_t context, const std::string& reason) {
  try {
    refuse_beyond_context(dataset, context, reason);
    return "";
  } catch (const RecipeError& error) { return error.what(); }
}

TEST(BeyondContext, IsRefusedWhereTheModelIsAnotherOneThere) {
  const auto dataset = of_lengths({16, 4}, {17});
  EXPECT_EQ(refusal(dataset, 17, "this model's rotation changes"), "");
  EXPECT_EQ(refusal(dataset, 16, ""), "");  // others go on, and are named by beyond_context()
  EXPECT_EQ(refusal(dataset, 16, "this model's rotation changes"),
            "b.jsonl:1: 17 tokens; past 16 tokens this model's rotation changes, which is not computed here: "
            "set data.sample_tokens: 16 with data.length: cut or skip");
  EXPECT_NE(
      refusal(of_lengths({4, 18}, {}), 16, "this model's rotation changes").find("a.jsonl:2: 18 tokens"),
      std::string::npos);
}

}  // namespace
}  // namespace retort
