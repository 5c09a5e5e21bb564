// A row of the `distill.features:` list of a recipe.
#pragma once
#include <cstdint>
#include <string>

#include "spec/fields.h"

namespace retort {

struct FeatureSpec {
  std::string kind = "hidden";
  int64_t student = 0, teacher = 0;
  double weight = 1;

  template <class Visitor> void fields(Visitor& field) {
    field("kind", kind, one_of({"hidden", "attention"}),
          "hidden: |P s - t|^2 / |t|^2 of what leaves the two layers, P a projection that is learned "
          "(arXiv:1412.6550); attention: KL of the teacher's attention, averaged over heads, to the "
          "student's (arXiv:2002.10957)");
    field("student", student, at_least(0),
          "layer of the student, from 0; of a student that is cut, its own number");
    field("teacher", teacher, at_least(0), "layer of the teacher, from 0");
    field("weight", weight, at_least(0), "added to the loss of each supervised token with this factor");
  }
};

}  // namespace retort
