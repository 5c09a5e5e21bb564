#include "run/rank_memory.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "base/machine_memory.h"
#include "base/parcel.h"

namespace retort {
namespace {

// Ranges of addresses that are pages of files, in their order.
std::vector<std::pair<uintptr_t, uintptr_t>> pages_of_files() {
  std::vector<std::pair<uintptr_t, uintptr_t>> ranges;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string range, rights, offset, device;
    uint64_t inode = 0;
    if (!(words >> range >> rights >> offset >> device >> inode) || inode == 0) continue;
    const auto dash = range.find('-');
    if (dash == range.npos) continue;
    const uintptr_t begin = std::stoull(range.substr(0, dash), nullptr, 16),
                    end = std::stoull(range.substr(dash + 1), nullptr, 16);
    if (!ranges.empty() && ranges.back().second == begin) ranges.back().second = end;
    else ranges.emplace_back(begin, end);
  }
  return ranges;
}

std::string packed(const RankMemory& memory) {
  Parcel parcel;
  parcel.put(memory.needs).put(memory.shared).put(memory.holds).put(memory.holds_of_files).put(memory.room);
  return parcel.put(memory.bound_by).bytes();
}

RankMemory unpacked(std::string bytes) {
  Parcel parcel(std::move(bytes));
  RankMemory memory;
  for (auto* field : {&memory.needs, &memory.shared, &memory.holds, &memory.holds_of_files, &memory.room})
    *field = parcel.take<uint64_t>();
  memory.bound_by = parcel.take<std::string>();
  return memory;
}

}  // namespace

uint64_t mapped_bytes(const Model& model) {
  const auto ranges = pages_of_files();
  uint64_t sum = 0;
  const auto add = [&](const Weight& weight) {
    const auto begin = reinterpret_cast<uintptr_t>(weight.dense.defined() ? weight.dense.const_data_ptr()
                                                                          : weight.blocks.data());
    const auto size = weight.dense.defined() ? weight.dense.nbytes() : weight.blocks.size();
    const auto behind = std::upper_bound(ranges.begin(), ranges.end(), begin,
                                         [](uintptr_t at, const auto& range) { return at < range.first; });
    if (size > 0 && behind != ranges.begin() && begin + size <= std::prev(behind)->second) sum += size;
  };
  add(model.embedding.weight);
  if (!model.config.tied_head) add(model.head.linear.weight);
  for (const auto* layer : model.linears()) add(layer->weight);
  return sum;
}

RankMemory memory_of_rank(const MemoryPrediction& need, uint64_t sums, const Model& model) {
  RankMemory memory;
  auto own = need;
  own.weights -= std::min(own.weights, mapped_bytes(model));
  own.teacher -= std::min(own.teacher, own.teacher_mapped);
  memory.needs = need.peak() + sums;
  memory.shared = need.peak() - own.peak();
  const auto holds = held_bytes();
  memory.holds = holds.own, memory.holds_of_files = holds.of_files;
  const auto machine = machine_memory();
  memory.room = machine.available - std::min(machine.available, holds.own + holds.of_files);
  memory.bound_by = machine.bound_by;
  return memory;
}

void require_memory_of_machines(const Peers& peers, const std::vector<RankMemory>& all) {
  struct Sum {
    int64_t first = 0, ranks = 0;
    uint64_t own = 0, shared = 0, holds = 0, holds_of_files = 0, room = 0;
  };
  std::map<std::pair<int64_t, std::string>, Sum> machines;
  for (size_t i = 0; i < all.size(); ++i) {
    const auto rank = static_cast<int64_t>(i);
    const auto& one = all[i];
    auto& sum = machines[{peers.first_on_machine(rank), one.bound_by}];
    if (sum.ranks++ == 0) sum.first = rank, sum.room = one.room;
    sum.own += one.needs - std::min(one.needs, one.shared);
    sum.holds += one.holds;
    sum.shared = std::max(sum.shared, one.shared);
    sum.holds_of_files = std::max(sum.holds_of_files, one.holds_of_files);
    sum.room = std::min(sum.room, one.room);
  }
  for (const auto& [place, sum] : machines) {
    const auto need = sum.own + sum.shared, have = sum.room + sum.holds + sum.holds_of_files;
    if (need <= have) continue;
    const auto first = peers.name(sum.first);
    const auto who = sum.ranks == 1 ? first + " needs"
                                    : fmt::format("{} and {} more {} there together need", first,
                                                  sum.ranks - 1, sum.ranks == 2 ? "rank" : "ranks");
    throw Failure(fmt::format(
        "{} about {} of memory ({} of it pages of the base's file, which ranks share), and {} leaves {}; "
        "start fewer ranks there, lower train.batch.pass_tokens or set train.recompute: true",
        who, bytes(need), bytes(sum.shared), place.second, bytes(have)));
  }
}

void require_memory_of_ranks(Peers& peers, const RankMemory& mine) {
  std::vector<RankMemory> all;
  for (auto& text : gather_texts(peers, packed(mine))) all.push_back(unpacked(std::move(text)));
  if (peers.rank() == 0) require_memory_of_machines(peers, all);
}

}  // namespace retort
