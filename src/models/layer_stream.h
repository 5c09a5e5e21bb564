// The weights of a model's layers while they are in the file: a matrix is read when a product asks for it, or
// ahead of that by a thread, and stays as long as the budget has room for it.
#pragma once
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "ops/linear.h"

namespace retort {

class LayerStream final : public WeightSource {
 public:
  // How a matrix comes and goes. `first`: nobody has looked at its numbers yet.
  struct File {
    std::function<BaseMatrix(const TensorPlace& place, bool first)> read;
    std::function<void(const TensorPlace& place)> give_back;  // its pages of the file, where it is a view
    std::function<uint64_t(const TensorPlace& place)> bytes;
  };
  struct Budget {
    uint64_t stored = 0;       // bytes of all matrices, as they are held
    uint64_t weights = 0;      // of those in memory; what is at work may be more
    uint64_t states = 0;       // of what stands between two layers, for whoever walks them
    std::string scratch = {};  // a folder where that waits instead; empty: in memory
    uint64_t read = 0;         // bytes of the file that a pass over all matrices reads
    uint64_t room = 0;         // for matrices that stay in memory (keep()), where that is enough for them
    bool of_machine = false;   // all of it is a share of what the machine has free: nobody said how much
    bool keeps_activations =
        false;  // in the folder of `scratch`, so that no layer is computed twice in training
  };
  LayerStream(File file, Budget budget);
  ~LayerStream() override;
  LayerStream(const LayerStream&) = delete;
  LayerStream& operator=(const LayerStream&) = delete;

  BaseMatrix take(const Linear& layer) override;
  // Reads these next, in this order, as far as the budget goes; what was expected before and has not begun is
  // forgotten.
  void expect(const std::vector<const Linear*>& next);
  // Nobody will ask for these soon.
  void let_go(const std::vector<const Linear*>& layers);
  // These stay in memory once they are read, whoever lets them go, if `room` bytes are enough for all of
  // them; else it returns false. What stayed before does so no longer.
  bool keep(const std::vector<const Linear*>& layers, uint64_t room);
  // Of a matrix, as it is held.
  uint64_t bytes_of(const Linear& layer) const { return file_.bytes(layer.place); }

  const Budget& budget() const { return budget_; }

 private:
  struct Entry {
    BaseMatrix held;
    uint64_t bytes = 0, used = 0;  // used: the number of the last call that asked for it
    bool there = false;            // else somebody is reading it
  };
  using Entries = std::map<TensorPlace, Entry>;
  const BaseMatrix& read(const TensorPlace& place, std::unique_lock<std::mutex>& lock);
  void make_room(uint64_t bytes);
  void remove(Entries::iterator entry);
  void read_ahead();

  const File file_;
  const Budget budget_;
  std::mutex mutex_;
  std::condition_variable arrived_, expected_;
  Entries entries_;
  std::set<TensorPlace> seen_, kept_;
  uint64_t room_;  // bytes of matrices that are in memory
  std::deque<TensorPlace> queue_;
  uint64_t held_bytes_ = 0, calls_ = 0;
  bool ending_ = false;
  std::thread reader_;
};

// One line: what stays in the file, and what of it is in memory.
std::string describe(const LayerStream& stream);

}  // namespace retort
