// Tensors that wait for their turn: in memory, or in a file of a scratch folder, whose pages are the
// machine's to keep or to write out. What stands between two layers then takes disk instead of memory,
// however many texts there are.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include <ATen/ATen.h>

namespace retort {

using at::Tensor;

class Shelf {
 public:
  // An empty folder: everything stays in memory. Else it is made where it is missing; the file has no name in
  // it, so that nothing is left whatever ends the program.
  explicit Shelf(const std::filesystem::path& folder = {});

  // The same numbers without a graph, waiting. The disk that they need is taken before a byte is written:
  // PassingFailure where it is full. By several threads.
  Tensor put(const Tensor& value);
  Tensor zeros(at::IntArrayRef sizes, at::ScalarType type);
  // Nobody looks at these numbers soon: their pages leave the process. Nothing happens to a tensor that is
  // not of this shelf.
  void rest(const Tensor& value) const;

  // Calls work(). What this thread makes meanwhile of tensors of a page or more lies on the shelf, and rests
  // afterwards as far as it is still there. Returns where it lies.
  using Places = std::vector<std::span<std::byte>>;
  Places hold(const std::function<void()>& work);
  // Somebody looks at these places soon: the machine begins to read them.
  void expect(const Places& places) const;

 private:
  class File;
  at::DataPtr place_of(uint64_t bytes);
  Tensor place_for(at::IntArrayRef sizes, at::ScalarType type);  // its numbers are anything
  std::shared_ptr<File> file_;                                   // shared with the tensors that lie in it
};

}  // namespace retort
