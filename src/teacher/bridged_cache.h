// A cache over the teacher's tokens, read at the student's positions: each finds the teacher's last boundary
// on the same text and the probabilities are carried over (byte_bridge.h).
#pragma once
#include <memory>
#include <unordered_map>

#include "teacher/byte_bridge.h"
#include "teacher/teacher_cache.h"

namespace retort {

// How much of what the teacher said reaches the student.
struct Coverage {
  int64_t positions = 0;  // supervised contexts of the student
  int64_t aligned = 0;    // with a teacher's boundary on the same text
  int64_t heard = 0;      // of them, where the kept row has something that is possible there
  double mass = 0;        // mean share of the possible mass that met a student token, over `heard`
};

class BridgedCache {
 public:
  // The samples are the same records in both tokenizers, found by their ids; the cache covers all of
  // `theirs`.
  BridgedCache(std::shared_ptr<const TeacherCache> cache, const Tokenizer& teacher, const Samples& theirs,
               const Tokenizer& student, const Samples& ours);

  // nullopt where the teacher says nothing.
  std::optional<SparseRow> find(Context context) const;
  const Coverage& coverage() const { return coverage_; }
  int64_t vocabulary() const { return vocabulary_; }
  bool sampled() const { return cache_->keep().draws > 0; }

 private:
  ByteBridge::Carried carried(const BridgePlace& place) const;
  std::shared_ptr<const TeacherCache> cache_;
  ByteBridge bridge_;
  std::unordered_map<Context, BridgePlace> places_;
  Coverage coverage_;
  int64_t vocabulary_;
};

}  // namespace retort
