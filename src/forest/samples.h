// Samples by number, wherever they lie: a list in memory, packed, or in a file that is read sample by sample.
// Steps and forests take the few they need out of it.
#pragma once
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "forest/forest.h"

namespace retort {

class SampleStorage {
 public:
  virtual ~SampleStorage() = default;
  virtual size_t size() const = 0;
  virtual Sample read(size_t index) const = 0;     // by any thread
  virtual int64_t tokens(size_t index) const = 0;  // how many it has, without reading it
};

// A range of a storage. Copies share it, and it never changes.
class Samples {
 public:
  Samples() = default;
  Samples(std::vector<Sample> list);  // implicit: a list of samples is samples
  Samples(std::initializer_list<Sample> list) : Samples(std::vector<Sample>(list)) {}
  explicit Samples(std::shared_ptr<const SampleStorage> storage)
      : storage_(std::move(storage)), size_(storage_->size()) {}
  Samples(std::shared_ptr<const SampleStorage> storage, size_t first, size_t size)
      : storage_(std::move(storage)), first_(first), size_(size) {}

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  Sample operator[](size_t index) const { return storage_->read(first_ + index); }
  int64_t tokens(size_t index) const { return storage_->tokens(first_ + index); }
  // Samples [first, end), in memory.
  std::vector<Sample> list(size_t first, size_t end) const;
  std::vector<Sample> list() const { return list(0, size_); }

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Sample;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = Sample;
    Iterator(const Samples* samples, size_t index) : samples_(samples), index_(index) {}
    Sample operator*() const { return (*samples_)[index_]; }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    bool operator==(const Iterator& other) const { return index_ == other.index_; }

   private:
    const Samples* samples_;
    size_t index_;
  };
  Iterator begin() const { return {this, 0}; }
  Iterator end() const { return {this, size_}; }

 private:
  std::shared_ptr<const SampleStorage> storage_;
  size_t first_ = 0, size_ = 0;
};

}  // namespace retort
