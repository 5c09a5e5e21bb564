#include "report/fidelity.h"

#include <gtest/gtest.h>

#include <cmath>

namespace retort {
namespace {

// llama.cpp's measurements of Llama 3 8B, and what a small model lost when nf4 was rounded once more.
TEST(Fidelity, RatesByWhatTypesInUseLose) {
  EXPECT_EQ(fidelity_of(0, 1), "good");
  EXPECT_EQ(fidelity_of(0.0014, 0.977), "good");  // Q8_0
  EXPECT_EQ(fidelity_of(0.056, 0.94), "good");    // Q4_K_M
  EXPECT_EQ(fidelity_of(0.025, 0.885), "good");   // the demo's
  EXPECT_EQ(fidelity_of(0.056, 0.80), "visible");
  EXPECT_EQ(fidelity_of(0.2, 0.92), "visible");
  EXPECT_EQ(fidelity_of(0.456, 0.69), "broken");  // nf4, then Q4_K_M
  EXPECT_EQ(fidelity_of(0.3, 0.70), "broken");
  EXPECT_EQ(fidelity_of(NAN, 1), "broken");
  EXPECT_EQ(fidelity_of(0, NAN), "broken");
}

}  // namespace
}  // namespace retort
