// A value that is worked out when somebody asks for it, or by another thread while nobody needs it yet.
#pragma once
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <utility>

namespace retort {

template <class T> class Later {
 public:
  Later() : Later(T{}) {}
  Later(T value)
      : shared_(std::make_shared<Shared>()) {  // NOLINT(google-explicit-constructor): what is known already
    std::promise<T> promise;
    promise.set_value(std::move(value));
    shared_->value = promise.get_future().share();
  }
  // Nothing is done before begin() or get().
  static Later of(std::function<T()> work) {
    Later later;
    later.shared_->work = std::move(work);
    return later;
  }
  // In a thread of its own, which the last copy waits for.
  void begin() const {
    std::call_once(shared_->begun, [&shared = *shared_] {
      if (shared.work) shared.value = std::async(std::launch::async, std::move(shared.work)).share();
    });
  }
  const T& get() const {  // throws what the work threw
    begin();
    return shared_->value.get();
  }

 private:
  struct Shared {
    std::once_flag begun;
    std::function<T()> work;
    std::shared_future<T> value;
  };
  std::shared_ptr<Shared> shared_;
};

}  // namespace retort
