#include "tables/arrow_calls.h"

#include "base/error.h"

namespace retort {

arrow::Status BoundedPool::Allocate(int64_t size, int64_t alignment, uint8_t** out) {
  ARROW_RETURN_NOT_OK(room_for(size));
  ARROW_RETURN_NOT_OK(pool_->Allocate(size, alignment, out));
  used_ += size;
  return arrow::Status::OK();
}

arrow::Status BoundedPool::Reallocate(int64_t old_size, int64_t new_size, int64_t alignment,
                                      uint8_t** memory) {
  ARROW_RETURN_NOT_OK(room_for(new_size - old_size));
  ARROW_RETURN_NOT_OK(pool_->Reallocate(old_size, new_size, alignment, memory));
  used_ += new_size - old_size;
  return arrow::Status::OK();
}

void BoundedPool::Free(uint8_t* memory, int64_t size, int64_t alignment) {
  pool_->Free(memory, size, alignment);
  used_ -= size;
}

arrow::Status BoundedPool::room_for(int64_t size) const {
  if (size <= limit_ - used_) return arrow::Status::OK();
  return arrow::Status::OutOfMemory(who_, " for more than ", bytes(static_cast<uint64_t>(limit_)));
}

void not_sound(const std::string& file, const char* kind, const arrow::Status& status) {
  const auto& text = status.message();
  corrupt(file, "",
          fmt::format("is no sound {} file ({}); is the download complete?", kind,
                      printable(std::string_view(text).substr(0, text.find('\n')))));
}

}  // namespace retort
