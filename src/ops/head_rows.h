// The vocabulary projection for losses other than cross-entropy: the logits of asked rows, a chunk at a time,
// go to a function that says what they cost. Each chunk's gradient is taken while its logits exist, so nobody
// holds logits for all rows. Rows that ask for a few ids of a frozen head go through one sweep over the
// vocabulary instead (ops/head_sweep.h), as cross-entropy does.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "ops/head.h"

namespace retort {

// Every row has an expectation over the whole vocabulary (a teacher at hand).
struct LogitRows {
  std::span<const int32_t> rows;  // rows of `hidden`
  size_t first = 0;               // index of rows[0] among all that were asked for
  Tensor logits;  // fp32 [rows, vocabulary], after the soft cap, in the CPU's memory; to be written into
};
// Returns the chunk's nats. With `gradient`, rows.logits is to hold d nats / d logits afterwards.
using LogitLoss = std::function<double(LogitRows& rows, bool gradient)>;

// A head whose columns from `vocabulary` on (padding of the matrix) are cut off before anything is computed;
// they get no gradient.
struct CutHead {
  const Head& head;
  int64_t vocabulary;
};

// Sum of `loss` over all chunks, a scalar fp32 with a graph to `hidden` and to the head's trainables.
Tensor loss_over_logits(const Tensor& hidden, std::span<const int32_t> rows, const CutHead& cut,
                        const Pass& pass, const LogitLoss& loss);

// Every row asks for a few ids only (a cached teacher). offsets[i]..offsets[i + 1] are row i's ids; ids of a
// row are distinct.
struct IdRows {
  std::vector<int32_t> rows;
  std::vector<int32_t> ids;
  std::vector<size_t> offsets = {0};
  double temperature = 1;  // at which all are asked
};
// What a row costs, as a function of log q at its ids (q: the student over the vocabulary, at the
// temperature). The gradient with respect to logits / temperature is softmax * q + corrections, the second at
// the ids alone.
struct IdLoss {
  double nats = 0;
  double softmax = 0;
};
using IdRowLoss =
    std::function<IdLoss(size_t row, std::span<const float> log_q, std::span<float> corrections)>;
Tensor loss_over_ids(const Tensor& hidden, const IdRows& rows, const CutHead& cut, const Pass& pass,
                     const IdRowLoss& loss);

}  // namespace retort
