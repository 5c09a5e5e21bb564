// The `distill:` section of a recipe.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "distill/feature_spec.h"
#include "distill/on_policy_spec.h"
#include "distill/own_answers_spec.h"
#include "distill/select_spec.h"
#include "spec/fields.h"

namespace retort {

struct DistillSpec {
  std::string loss = "forward_kl";
  double parameter = -1;
  double temperature = 1;
  double weight = 0.5;
  std::string alignment = "auto";
  bool baseline = true;
  std::optional<SelectSpec> select = {};
  std::vector<FeatureSpec> features = {};
  std::optional<OnPolicySpec> on_policy = {};
  OwnAnswersSpec own_answers = {};

  template <class Visitor> void fields(Visitor& field) {
    field("loss", loss,
          one_of({"forward_kl", "reverse_kl", "jensen_shannon", "skewed_kl", "skewed_reverse_kl",
                  "total_variation", "adaptive_kl", "uld"}),
          "divergence from the teacher at each supervised token; the rest of the loss is cross-entropy. uld: "
          "sorted probabilities of a teacher with any tokenizer (arXiv:2402.12030), from a cache");
    field("parameter", parameter, between(-1, 1),
          "jensen_shannon: the teacher's share of the mixture; skewed: its alpha; adaptive_kl: mass of the "
          "head; -1 = 0.5, 0.1, 0.5");
    field("temperature", temperature, between(0.05, 100),
          "both distributions are softmax(logits / T); the loss is multiplied by T^2, so gradients keep "
          "their size");
    field("weight", weight, between(0, 1),
          "share of the divergence; the other 1 - weight is cross-entropy with the data");
    field("alignment", alignment, one_of({"auto", "tokens", "bytes"}),
          "tokens: teacher and student share a tokenizer; bytes: they need not, probabilities are carried to "
          "the student's tokens through their bytes (from the cache); auto: tokens where the tokenizers are "
          "equal");
    field("baseline", baseline, any(),
          "train the same student on the same tokens without the teacher too, for the table of the report");
    field.section("select", select,
                  "positions at which the teacher is heard; absent: all that are supervised");
    field.list("features", features,
               "losses between layers of student and teacher besides (teacher.live: true)");
    field.section("on_policy", on_policy, "the student learns from its own answers, graded by the teacher");
    field.section("own_answers", own_answers,
                  "for the table of the report: answers that each model samples itself, on which it is "
                  "compared with a teacher on disk that has its tokenizer");
  }
};

}  // namespace retort
