// Where the tensors lie that a thread makes: in memory, or where somebody says for as long as he wants.
#pragma once
#include <c10/core/Allocator.h>

#include <cstddef>
#include <functional>

namespace retort {

// While it lives, what this thread makes of tensors of at least `least` bytes lies where `take` says; those
// keep their place when it ends. The last one of a thread that lives is asked. What helpers of a team make
// lies in memory.
class NewTensors {
 public:
  using Take = std::function<at::DataPtr(size_t bytes)>;  // 64-byte aligned
  NewTensors(size_t least, Take take);
  NewTensors();  // in memory, whoever else asked
  ~NewTensors();
  NewTensors(const NewTensors&) = delete;
  NewTensors& operator=(const NewTensors&) = delete;

  bool wants(size_t bytes) const { return take_ && bytes >= least_; }
  at::DataPtr take(size_t bytes) const { return take_(bytes); }

 private:
  const size_t least_ = 0;
  const Take take_;
  const NewTensors* const before_;
};

}  // namespace retort
