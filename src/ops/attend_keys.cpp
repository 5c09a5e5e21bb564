#include "ops/attend_keys.h"

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/gemm.h"
#include "ops/row_loops.h"
#include "ops/scratch.h"

namespace retort {
namespace {

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

int64_t common_rows(const std::vector<KeyRange>& a, const std::vector<KeyRange>& b) {
  int64_t common = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (a[i].begin != b[i].begin) break;
    common += std::min(a[i].end, b[i].end) - a[i].begin;
    if (a[i].end != b[i].end) break;
  }
  return common;
}

void to_operands(const void* in, at::ScalarType type, Operand operand, void* out, int64_t count) {
  if ((type == at::kFloat) == (operand == Operand::f32))
    std::memcpy(out, in, static_cast<size_t>(count * operand_bytes(operand)));
  else if (operand == Operand::f32)
    row_loops().bf16.to_float(static_cast<const uint16_t*>(in), 1, static_cast<float*>(out), count);
  else row_loops().bf16.from_float(static_cast<const float*>(in), static_cast<uint16_t*>(out), count);
}
void from_operands(const void* in, Operand operand, at::ScalarType type, void* out, int64_t count) {
  to_operands(in, operand == Operand::f32 ? at::kFloat : at::kBFloat16,
              type == at::kFloat ? Operand::f32 : Operand::bf16, out, count);
}

Stored::Stored(const Tensor& tensor, const Tensor& of_codes, int64_t first_numbers)
    : data(static_cast<const std::byte*>(tensor.const_data_ptr())),
      type(tensor.scalar_type()),
      scales(of_codes.defined() ? of_codes.const_data_ptr<float>() : nullptr),
      heads(tensor.size(1)),
      width(first_numbers > 0 ? first_numbers : tensor.size(2)),
      stride(tensor.size(2)) {
  if (!tensor.is_contiguous()) throw std::logic_error("attend: keys and values are contiguous");
}

const float* Stored::row(int64_t row, int64_t head, float* room) const {
  const auto* from = place(row, head);
  if (type == at::kFloat) return reinterpret_cast<const float*>(from);
  if (type == at::kBFloat16)
    row_loops().bf16.to_float(reinterpret_cast<const uint16_t*>(from), 1.0f, room, width);
  else
    row_loops().scores.codes_to_float(reinterpret_cast<const int8_t*>(from), scales[row * heads + head], room,
                                      width);
  return room;
}

void store_in_cache(const Tensor& rows, const std::vector<int32_t>& where, Tensor& cache, Tensor* scales) {
  if (!scales) {
    cache.index_copy_(0, list_on(cache, where), rows.to(cache.scalar_type()));
    return;
  }
  if (composed(rows)) return composed_store_in_cache(rows, where, cache, *scales);
  const Stored from(rows);
  auto* codes = cache.mutable_data_ptr<int8_t>();
  auto* scale = scales->mutable_data_ptr<float>();
  std::vector<float> room(static_cast<size_t>(from.width));
  for (size_t i = 0; i < where.size(); ++i)
    for (int64_t head = 0; head < from.heads; ++head) {
      const auto* values = from.row(static_cast<int64_t>(i), head, room.data());
      const auto place = where[i] * from.heads + head;
      float largest = 0;
      for (int64_t j = 0; j < from.width; ++j) largest = std::max(largest, std::abs(values[j]));
      scale[place] = largest / 127;
      const auto inverse = largest > 0 ? 127 / largest : 0.0f;
      for (int64_t j = 0; j < from.width; ++j)
        codes[place * from.width + j] = static_cast<int8_t>(std::lrint(values[j] * inverse));
    }
}

void Stored::copy_row(int64_t row, int64_t head, Operand operand, void* out, float* room) const {
  if (scales) to_operands(this->row(row, head, room), at::kFloat, operand, out, width);
  else to_operands(place(row, head), type, operand, out, width);
}

KeyChunks::KeyChunks(const GemmKernel& kernel, const Stored& source, Layout layout, int64_t capacity)
    : kernel_(kernel), source_(source), layout_(layout) {
  const auto one = aligned(kChunkKeys * source.width * operand_bytes(kernel.operand));
  rows_bytes_ = layout == Layout::transposed ? 0 : one;
  chunk_bytes_ = layout == Layout::both ? 2 * one : one;
  copied_.assign(static_cast<size_t>((capacity + kChunkKeys - 1) / kChunkKeys), 0);
  memory_ = at::empty({static_cast<int64_t>(copied_.size()) * chunk_bytes_}, at::TensorOptions(at::kByte));
}

void KeyChunks::use_head(int64_t head) {
  head_ = head;
  path_ = nullptr;
  std::fill(copied_.begin(), copied_.end(), 0);
}

// Chunks that lie within what the new path shares with the last one stay.
void KeyChunks::follow(const std::vector<KeyRange>& path, int64_t keys) {
  if (path_ == &path) return;
  const auto common = path_ ? common_rows(*path_, path) : 0;
  for (size_t c = 0; c < copied_.size(); ++c)
    if (static_cast<int64_t>(c) * kChunkKeys + copied_[c] > common) copied_[c] = 0;
  path_ = &path;
  keys_ = keys;
}

const std::byte* KeyChunks::chunk(int64_t index) {
  auto* const memory =
      reinterpret_cast<std::byte*>(memory_.mutable_data_ptr<uint8_t>() + index * chunk_bytes_);
  auto& copied = copied_[static_cast<size_t>(index)];
  const auto first = index * kChunkKeys, count = std::min(kChunkKeys, keys_ - first);
  if (copied == count) return memory;
  const auto row_bytes = source_.width * operand_bytes(kernel_.operand);
  auto* rows = layout_ == Layout::transposed
                   ? scratch_bytes(Scratch::keys_to_transpose, kChunkKeys * row_bytes)
                   : memory;
  auto* room = reinterpret_cast<float*>(scratch_bytes(Scratch::key_row, source_.width * 4));
  each_run(*path_, first, first + count, [&](int64_t at, int64_t row, int64_t run) {
    for (int64_t i = 0; i < run; ++i) {
      prefetch(source_.place(row + i + kRowsAhead, head_), source_.row_bytes());
      source_.copy_row(row + i, head_, kernel_.operand, rows + (at - first + i) * row_bytes, room);
    }
  });
  if (layout_ != Layout::rows)
    kernel_.transpose(rows, row_bytes, count, source_.width, memory + rows_bytes_,
                      kChunkKeys * operand_bytes(kernel_.operand));
  copied = count;
  return memory;
}

PathGradient::PathGradient(Tensor& out, int64_t capacity, bool own)
    : out_(out),
      path_(at::zeros({capacity, out.size(2)}, at::TensorOptions(at::kFloat))),
      width_(out.size(2)) {
  if (own) own_ = at::zeros({out.size(0), width_}, at::TensorOptions(at::kFloat));
}

void PathGradient::follow(const std::vector<KeyRange>* ranges, int64_t keys) {
  if (ranges == ranges_) return;
  if (ranges_) flush(ranges ? common_rows(*ranges_, *ranges) : 0);
  ranges_ = ranges;
  keys_ = keys;
}

void PathGradient::add_own() {
  if (!own_.defined()) return;
  const auto* from = own_.const_data_ptr<float>();
  for (int64_t row = 0; row < own_.size(0); ++row, from += width_)
    row_loops().scores.add_scaled(place(row), from, 1.0f, width_);
  own_.zero_();
}

void PathGradient::flush(int64_t from) {
  each_run(*ranges_, from, keys_, [&](int64_t at_index, int64_t row, int64_t run) {
    auto* part = at(at_index);
    if (own_.defined())
      row_loops().scores.add_scaled(own_.mutable_data_ptr<float>() + row * width_, part, 1.0f, run * width_);
    else
      for (int64_t i = 0; i < run; ++i)
        row_loops().scores.add_scaled(place(row + i), part + i * width_, 1.0f, width_);
    std::fill_n(part, run * width_, 0.0f);
  });
}

}  // namespace retort
