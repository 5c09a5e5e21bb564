// Numbers, texts and lists as bytes on their way to another rank, which runs the same program.
#pragma once
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace retort {

class Parcel {
 public:
  Parcel() = default;
  explicit Parcel(std::string bytes) : bytes_(std::move(bytes)) {}

  template <class Value> Parcel& put(const Value& value) {
    static_assert(std::is_trivially_copyable_v<Value>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Parcel& put(const std::string& text) {
    put(text.size());
    bytes_ += text;
    return *this;
  }
  template <class Value> Parcel& put(const std::vector<Value>& list) {
    put(list.size());
    if constexpr (std::is_trivially_copyable_v<Value>)
      bytes_.append(reinterpret_cast<const char*>(list.data()), list.size() * sizeof(Value));
    else
      for (const auto& value : list) put(value);
    return *this;
  }

  // In the order in which they were put.
  template <class Value> Value take() {
    Value value{};
    take_into(value);
    return value;
  }
  bool empty() const { return at_ == bytes_.size(); }
  const std::string& bytes() const { return bytes_; }

 private:
  template <class Value> void take_into(Value& value) {
    static_assert(std::is_trivially_copyable_v<Value>);
    std::memcpy(&value, next(sizeof value), sizeof value);
  }
  void take_into(std::string& text) {
    const auto size = take<size_t>();
    text.assign(next(size), size);
  }
  template <class Value> void take_into(std::vector<Value>& list) {
    const auto size = take<size_t>();
    if constexpr (std::is_trivially_copyable_v<Value>) {
      list.resize(size);
      if (size > 0) std::memcpy(list.data(), next(size * sizeof(Value)), size * sizeof(Value));
    } else {
      for (size_t i = 0; i < size; ++i) list.push_back(take<Value>());
    }
  }
  const char* next(size_t size) {
    if (size > bytes_.size() - at_) throw std::logic_error("a parcel of another rank ends early");
    const auto* here = bytes_.data() + at_;
    at_ += size;
    return here;
  }
  std::string bytes_;
  size_t at_ = 0;
};

}  // namespace retort
