// The `distill.select:` section of a recipe.
#pragma once
#include <string>

#include "spec/fields.h"

namespace retort {

struct SelectSpec {
  std::string by = "entropy";
  double at_least = 0;

  template <class Visitor> void fields(Visitor& field) {
    field("by", by, one_of({"entropy", "disagreement"}),
          "entropy: of the teacher, in nats; disagreement: total variation between teacher and student over "
          "the head and the rest, 0 to 1");
    field("at_least", at_least, at_least_zero(),
          "the teacher is heard at positions with this much of it; the others learn from the data alone");
  }

 private:
  static Rule at_least_zero() { return retort::at_least(0); }
};

}  // namespace retort
