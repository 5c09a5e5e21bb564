#include "train/peers.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "train/fingerprint.h"

namespace retort {
namespace {

// Names and values, each with a zero byte after it: neither holds one.
std::string text_of(const Fingerprint& fingerprint) {
  std::string text;
  for (const auto& [name, value] : fingerprint) {
    text.append(name).push_back('\0');
    text.append(value).push_back('\0');
  }
  return text;
}

Fingerprint fingerprint_of(const std::string& text) {
  Fingerprint all;
  size_t at = 0;
  const auto next = [&] {
    const auto end = std::min(text.find('\0', at), text.size());
    const auto word = text.substr(at, end - at);
    at = end + 1;
    return word;
  };
  while (at < text.size()) {
    auto name = next();
    all.emplace_back(std::move(name), next());
  }
  return all;
}

// What comes before the numbers of some sums: which of the leaves have one.
struct SumsHead {
  double nats = 0, weight = 0;
  int64_t forests = 0;
};

std::vector<std::byte> head_of(const StepSums& sums, size_t leaves) {
  const SumsHead head{sums.nats, sums.weight, sums.forests};
  std::vector<std::byte> bytes(sizeof head + leaves);
  std::memcpy(bytes.data(), &head, sizeof head);
  for (size_t i = 0; i < sums.gradients.size(); ++i)
    bytes[sizeof head + i] = static_cast<std::byte>(sums.gradients[i].defined());
  return bytes;
}

// Sums without their numbers: those that a rank has are there, not filled.
StepSums sums_of_head(const std::vector<std::byte>& bytes, const std::vector<Tensor>& leaves) {
  SumsHead head;
  std::memcpy(&head, bytes.data(), sizeof head);
  StepSums sums;
  sums.nats = head.nats, sums.weight = head.weight, sums.forests = head.forests;
  sums.gradients.resize(leaves.size());
  for (size_t i = 0; i < leaves.size(); ++i)
    if (bytes[sizeof head + i] != std::byte{0})
      sums.gradients[i] = at::empty(leaves[i].sizes(), at::TensorOptions(at::kFloat));
  return sums;
}

// One message for all numbers: most leaves of an adapter are small.
std::vector<std::byte> numbers_of(const StepSums& sums) {
  std::vector<std::byte> bytes;
  for (const auto& sum : sums.gradients) {
    if (!sum.defined()) continue;
    const auto whole = sum.contiguous();
    const auto* begin = static_cast<const std::byte*>(whole.const_data_ptr());
    bytes.insert(bytes.end(), begin, begin + whole.nbytes());
  }
  return bytes;
}

size_t size_of_numbers(const StepSums& sums) {
  size_t size = 0;
  for (const auto& sum : sums.gradients)
    if (sum.defined()) size += sum.nbytes();
  return size;
}

void fill(StepSums& sums, const std::vector<std::byte>& numbers) {
  size_t at = 0;
  for (auto& sum : sums.gradients) {
    if (!sum.defined()) continue;
    std::memcpy(sum.mutable_data_ptr(), numbers.data() + at, sum.nbytes());
    at += sum.nbytes();
  }
}

}  // namespace

void require_equal(Peers& peers, const Fingerprint& mine) {
  if (peers.rank() != 0) send_text(peers, 0, text_of(mine));
  else
    for (int64_t rank = 1; rank < peers.count(); ++rank) {
      const auto different = differences(mine, fingerprint_of(receive_text(peers, rank)), "at rank 0",
                                         fmt::format("at rank {}", rank));
      if (!different.empty())
        throw RecipeError(fmt::format(
            "{} is not equal to {}: {}; all ranks need the same recipe, samples, base, program, CPU and "
            "number of threads",
            peers.name(rank), peers.name(0), different));
    }
  char equal = 1;  // nobody goes on before rank 0 has looked at all
  broadcast(peers, 0, std::as_writable_bytes(std::span(&equal, 1)));
}

void send_sums(Peers& peers, int64_t to, const StepSums& sums) {
  peers.send(to, head_of(sums, sums.gradients.size()));
  peers.send(to, numbers_of(sums));
}

StepSums receive_sums(Peers& peers, int64_t from, const std::vector<Tensor>& leaves) {
  std::vector<std::byte> head(sizeof(SumsHead) + leaves.size());
  peers.receive(from, head);
  auto sums = sums_of_head(head, leaves);
  std::vector<std::byte> numbers(size_of_numbers(sums));
  peers.receive(from, numbers);
  fill(sums, numbers);
  return sums;
}

void broadcast_sums(Peers& peers, int64_t root, const std::vector<Tensor>& leaves, StepSums& sums) {
  if (peers.count() == 1) return;
  const bool has_them = peers.rank() == root;
  auto head =
      has_them ? head_of(sums, leaves.size()) : std::vector<std::byte>(sizeof(SumsHead) + leaves.size());
  broadcast(peers, root, head);
  if (!has_them) sums = sums_of_head(head, leaves);
  auto numbers = has_them ? numbers_of(sums) : std::vector<std::byte>(size_of_numbers(sums));
  broadcast(peers, root, numbers);
  if (!has_them) fill(sums, numbers);
}

}  // namespace retort
