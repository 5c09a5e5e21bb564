// Calls of libarrow and libparquet over bytes that nobody has checked: memory is bounded, and whatever they
// refuse is a FormatError of one line.
#pragma once
#include <arrow/api.h>
#include <parquet/exception.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <utility>

namespace retort {

// Refuses what a small file that stands for a huge list would ask for.
class BoundedPool : public arrow::MemoryPool {
 public:
  explicit BoundedPool(int64_t limit, const char* who = "one row asks") : limit_(limit), who_(who) {}
  using arrow::MemoryPool::Allocate;
  using arrow::MemoryPool::Free;
  using arrow::MemoryPool::Reallocate;
  arrow::Status Allocate(int64_t size, int64_t alignment, uint8_t** out) override;
  arrow::Status Reallocate(int64_t old_size, int64_t new_size, int64_t alignment, uint8_t** memory) override;
  void Free(uint8_t* memory, int64_t size, int64_t alignment) override;
  int64_t bytes_allocated() const override { return used_; }
  int64_t total_bytes_allocated() const override { return pool_->total_bytes_allocated(); }
  int64_t num_allocations() const override { return pool_->num_allocations(); }
  int64_t max_memory() const override { return pool_->max_memory(); }
  std::string backend_name() const override { return pool_->backend_name(); }

 private:
  arrow::Status room_for(int64_t size) const;
  arrow::MemoryPool* pool_ = arrow::system_memory_pool();
  int64_t limit_;
  const char* who_;  // for the message
  std::atomic<int64_t> used_ = 0;
};

// `kind`: "Parquet", "Arrow".
[[noreturn]] void not_sound(const std::string& file, const char* kind, const arrow::Status& status);

// Calls what may fail in either of Arrow's two ways.
template <class Call> auto sound(const std::string& file, const char* kind, const Call& call) {
  arrow::Status status;
  try {
    auto result = call();
    if (result.ok()) return std::move(result).ValueUnsafe();
    status = result.status();
  } catch (const parquet::ParquetException& error) {
    status = arrow::Status::Invalid(error.what());
  } catch (const std::length_error& error) {
    status = arrow::Status::Invalid(error.what());
  } catch (const std::out_of_range& error) { status = arrow::Status::Invalid(error.what()); }
  not_sound(file, kind, status);
}

}  // namespace retort
