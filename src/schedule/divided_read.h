// A model that is larger than one machine's memory, or than its disk is fast, read by several ranks: each has
// some neighbouring layers. A group of texts goes through those of rank 0, which hands what left them to rank
// 1, and goes on with the next group. The last rank has the hidden states after the final norm, and hands
// what is made of them to rank 0. The operations are those of one process, on the same texts, so every number
// is the same, bit for bit.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/peers.h"
#include "schedule/layers.h"
#include "schedule/read.h"

namespace retort {

// What all ranks bring along; they call read_divided() together, for the same model and texts.
struct DividedReading {
  const Model& model;
  Peers& peers;
  std::function<Pass(int64_t text)> pass;  // by several threads
  // At the last rank with layers: what is made of a text, by several threads; then as bytes, one at a time.
  std::function<void(int64_t text, Read&& read)> use;
  std::function<std::string(int64_t text)> packed;
  // At rank 0, where it is not the last; then, of every text: it is there. The texts come in their order,
  // while others are still on their way.
  std::function<void(int64_t text, std::string packed)> unpack;
  std::function<void(int64_t text)> there = [](int64_t) {};
};

// False at all ranks where one of them was asked to stop: what rank 0 has unpacked until then is whole. What
// else goes wrong is thrown where it happens; at rank 0 once the others know (done_by_all() in base/peers.h).
// `how`: that of one process.
bool read_divided(const DividedReading& reading, const std::vector<int64_t>& texts, const Abreast& how,
                  std::string_view doing);

// Whether some rank's model has its layers in its file: then all divide them. All ranks call it together.
bool divides_layers(Peers& peers, const Model& model);
// The layers of each rank that has some (layer_cut.h), as rank 0 counts them. All ranks call it together.
std::vector<Share> agree_on_layers(Peers& peers, const Model& model);

}  // namespace retort
