// One model against another.
#include "eval/compare.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "where.h"  // tests

namespace retort {
namespace {

LoadedModel golden_llama() {
  return load_weights({.path = (std::filesystem::path(source_dir()) / "tests/golden/models/llama").string()});
}

std::vector<Forest> one_forest() {
  return build_forests({{{3, 4, 5, 6, 7}, {0, 1, 1, 1, 1}, "made up"}}, 64);
}

TEST(Compare, AModelAgreesWithItself) {
  const auto one = golden_llama(), other = golden_llama();
  const auto agreement = compare_models({*one.model}, {*other.model}, one_forest(), 1);
  EXPECT_EQ(agreement.rows, 4);
  EXPECT_EQ(agreement.kl_nats, 0);
  EXPECT_EQ(agreement.top1, 1);
}

// A row of NaN had a KL of 0, and two of them the same arg max.
TEST(Compare, WhatIsNoNumberAgreesWithNothing) {
  for (const bool reference : {true, false}) {
    const auto good = golden_llama(), bad = golden_llama();
    auto* layer = bad.model->linears().back();
    layer->weight = dense_weight(layer->weight.dense.clone());
    layer->weight.dense[0][0] = NAN;
    const auto &one = reference ? bad : good, &other = reference ? good : bad;
    try {
      compare_models({*one.model}, {*other.model}, one_forest(), 1);
      FAIL() << "agreed";
    } catch (const Failure& failure) {
      EXPECT_NE(
          std::string(failure.what())
              .find(reference ? "the trained model are not finite" : "the compared model are not finite"),
          std::string::npos)
          << failure.what();
    }
  }
}

}  // namespace
}  // namespace retort
