// A value that another thread works out while nobody needs it yet.
#pragma once
#include <functional>
#include <future>
#include <utility>

namespace retort {

template <class T>
class Later {
 public:
  Later() : Later(T{}) {}
  Later(T value) {   // NOLINT(google-explicit-constructor): what is known already
    std::promise<T> promise;
    promise.set_value(std::move(value));
    value_ = promise.get_future().share();
  }
  // Begins at once, in a thread of its own, which the last copy waits for.
  static Later of(std::function<T()> work) {
    Later later;
    later.value_ = std::async(std::launch::async, std::move(work)).share();
    return later;
  }
  const T& get() const { return value_.get(); }   // what the work threw, where it did

 private:
  std::shared_future<T> value_;
};

}  // namespace retort
