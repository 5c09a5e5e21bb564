// What is left of a teacher in its students, at the supervised tokens of held-out samples.
#pragma once
#include <string>
#include <vector>

#include "forest/forest.h"
#include "models/computed_model.h"

namespace retort {

struct Quality {
  int64_t rows = 0;       // positions compared
  double forward_kl = 0;  // mean KL(teacher || student) in nats
  double reverse_kl = 0;  // mean KL(student || teacher)
  double top1 = 0;        // share of positions with the teacher's first choice first
  double top5 = 0;        // mean share of the teacher's five first choices among the student's
  double acceptance = 0;  // mean of sum min(p, q): a draft token's chance (arXiv:2211.17192, theorem 3.5)
  double calibration_error =
      0;            // of the student's first choice against the data, 15 equal bins (arXiv:1706.04599)
  double nats = 0;  // cross-entropy with the data, per unit of weight
  double bits_per_byte = 0;
  bool compared =
      true;  // false: there was no teacher of the same tokens, and only the last three and `rows` are known

  template <class Visitor> void fields(Visitor& field) {
    field("rows", rows);
    field("forward_kl", forward_kl);
    field("reverse_kl", reverse_kl);
    field("top1", top1);
    field("top5", top5);
    field("acceptance", acceptance);
    field("calibration_error", calibration_error);
    field("nats", nats);
    field("bits_per_byte", bits_per_byte);
    field("compared", compared);
  }
  double perplexity() const;
  double acceptance_length()
      const;  // expected tokens a teacher pass with kDraft drafted tokens gives (equation 1 there)
  static constexpr int kDraft = 4;
};

// What models are compared over.
struct Comparing {
  const Tokenizer& tokenizer;
  int64_t vocabulary = 0;  // columns beyond it are cut off
  int64_t threads = 0;     // 0 = all
};

// Teacher and students see each forest once. The teacher is measured against itself too, as the last entry:
// zero divergence, its own calibration and bits per byte. Without a teacher (nullptr) nothing is compared.
std::vector<Quality> measure_quality(const ComputedModel* teacher, const std::vector<ComputedModel>& students,
                                     const std::vector<Forest>& forests, const Comparing& comparing);

}  // namespace retort
