#include "forest/samples.h"

namespace retort {
namespace {

class ListedSamples : public SampleStorage {
 public:
  explicit ListedSamples(std::vector<Sample> list) : list_(std::move(list)) {}
  size_t size() const override { return list_.size(); }
  Sample read(size_t index) const override { return list_[index]; }
  int64_t tokens(size_t index) const override { return static_cast<int64_t>(list_[index].tokens.size()); }

 private:
  std::vector<Sample> list_;
};

}  // namespace

Samples::Samples(std::vector<Sample> list)
    : storage_(std::make_shared<ListedSamples>(std::move(list))), size_(storage_->size()) {}

std::vector<Sample> Samples::list(size_t first, size_t end) const {
  std::vector<Sample> some;
  some.reserve(end - first);
  for (size_t i = first; i < end; ++i) some.push_back((*this)[i]);
  return some;
}

}  // namespace retort
