#include "ops/device_kernels.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <tuple>

#include "ops/differentiable.h"
#include "ops/norm.h"
#include "ops/rotate.h"
#include "ops/route.h"

namespace retort {
namespace {

std::optional<c10::OperatorHandle> operator_on(at::Device device, const char* name) {
  if (device.is_cpu()) return std::nullopt;
  auto found = c10::Dispatcher::singleton().findSchema({name, ""});
  const auto key = at::TensorOptions(device).computeDispatchKey();
  if (!found || !found->hasKernelForDispatchKey(key)) return std::nullopt;
  return found;
}

Tensor bytes_on(at::Device device, std::span<const std::byte> bytes) {
  return at::from_blob(const_cast<std::byte*>(bytes.data()), {static_cast<int64_t>(bytes.size())},
                       at::TensorOptions(at::kByte))
      .to(device);
}

// A book lives as long as the program here, and stays on a device once it is there: a kernel reads it in
// every call. Never freed, since a device may be gone before.
std::optional<Tensor> book_on(at::Device device, std::span<const std::byte> book) {
  if (book.empty()) return std::nullopt;
  static std::mutex mutex;
  static auto* const books = new std::map<std::tuple<int, int, const std::byte*>, Tensor>;
  const std::lock_guard lock(mutex);
  auto& there = (*books)[{static_cast<int>(device.type()), device.index(), book.data()}];
  if (!there.defined()) there = bytes_on(device, book);
  return there;
}

// Contiguous and at an address that 16 bytes can be read from.
bool is_whole(const Tensor& x) {
  return x.is_contiguous() && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
}

// The same numbers where 16 bytes can be read from.
Tensor whole(const Tensor& x) { return is_whole(x) ? x : x.clone(at::MemoryFormat::Contiguous); }

// What belongs to a matrix's codes.
std::optional<Tensor> list_there(const Weight& weight, DeviceCopies::Part part, const Tensor& list,
                                 at::Device device) {
  if (!list.defined()) return std::nullopt;
  return brought(list, device, list.scalar_type(), weight.copies, part);
}

// Stored rows at an address that a kernel can read from: of all the matrix's where these stay on the device.
Tensor stored_on(at::Device device, const Weight& weight, int64_t first, int64_t count) {
  const auto stride = static_cast<int64_t>(*row_bytes(weight.type, static_cast<uint64_t>(weight.columns)));
  if (weight.copies)
    if (const auto all = weight.copies->bytes(weight.blocks, device))
      return whole(all->narrow(0, first * stride, count * stride));
  return bytes_on(device, weight.blocks.subspan(static_cast<size_t>(first * stride),
                                                static_cast<size_t>(count * stride)));
}

bool are_alike(const Tensor& a, const Tensor& b) {
  const auto type = a.scalar_type();
  return (type == at::kFloat || type == at::kBFloat16) && b.scalar_type() == type && is_whole(a) &&
         is_whole(b);
}

}  // namespace

bool has_decoder(at::Device device) { return operator_on(device, "retort::decode").has_value(); }

std::optional<Tensor> decoded_on(const Tensor& x, const Weight& weight, int64_t first, int64_t count) {
  const auto device = x.device();
  const auto type = x.scalar_type();
  if (device.is_cpu() || weight.blocks.empty() || !has_decode_kernel(weight.type) ||
      (type != at::kFloat && type != at::kBFloat16))
    return std::nullopt;
  const bool scales_apart = weight.type == WeightType::f8_e4m3 || weight.type == WeightType::packed4;
  if (scales_apart && !weight.scales.defined() && !weight.code_scales) return std::nullopt;
  const auto decode = operator_on(device, "retort::decode");
  if (!decode) return std::nullopt;
  DecodeJob job;
  job.type = weight.type, job.rows = count, job.columns = weight.columns, job.first_row = first;
  auto book = decode_book(weight.type);
  using Part = DeviceCopies::Part;
  std::optional<Tensor> scales, zeros, group_of;
  if (weight.type == WeightType::f8_e4m3) {
    const auto grid = weight.grid();
    job.scale_columns = grid.columns, job.block_rows = grid.block_rows,
    job.block_columns = grid.block_columns;
    scales = list_there(weight, Part::scales, weight.scales, device);
  } else if (weight.type == WeightType::packed4) {
    const auto& codes = *weight.code_scales;
    job.scale_columns = codes.groups, job.block_columns = codes.group_columns;
    job.high_first = codes.high_first;
    book = std::as_bytes(codes.book);
    scales = list_there(weight, Part::scales, codes.scales, device);
    zeros = list_there(weight, Part::zeros, codes.zeros, device);
    group_of = list_there(weight, Part::groups, codes.group_of, device);
  }
  return decode->typed<DecodeOperator>().call(stored_on(device, weight, first, count), book_on(device, book),
                                              scales, zeros, group_of, numbers_of(job), type);
}

std::optional<Tensor> dropped_on(const Tensor& x, double rate, uint64_t key) {
  const auto type = x.scalar_type();
  if (!is_whole(x) || (type != at::kFloat && type != at::kBFloat16)) return std::nullopt;
  const auto drop = operator_on(x.device(), "retort::drop");
  if (!drop) return std::nullopt;
  return drop->typed<DropOperator>().call(x.detach(), static_cast<int64_t>(key), std::lround(rate * 65536),
                                          1 / (1 - rate));
}

std::optional<Tensor> gated_on(const Tensor& gate, const Tensor& up, bool silu) {
  if (!are_alike(gate, up)) return std::nullopt;
  const auto gated = operator_on(gate.device(), "retort::gated");
  if (!gated) return std::nullopt;
  return gated->typed<GatedOperator>().call(gate, up, silu);
}

std::optional<std::tuple<Tensor, Tensor>> gated_back_on(const Tensor& gradient, const Tensor& gate,
                                                        const Tensor& up, bool silu) {
  if (!are_alike(gate, up) || !are_alike(gradient, up)) return std::nullopt;
  const auto back = operator_on(gate.device(), "retort::gated_back");
  if (!back) return std::nullopt;
  return back->typed<GatedBackOperator>().call(gradient, gate, up, silu);
}

std::optional<NormedSum> normed_on(const Tensor& x_input, const Tensor& delta_input, const Norm& norm) {
  const auto device = x_input.device();
  if (device.is_cpu() || x_input.size(-1) < kShortestNorm || norm.weight.requires_grad()) return std::nullopt;
  const auto forward = operator_on(device, "retort::norm"), back = operator_on(device, "retort::norm_back");
  if (!forward || !back) return std::nullopt;
  const auto x = x_input.contiguous(), delta = delta_input.defined() ? delta_input.contiguous() : Tensor();
  if (!are_alike(x, x) || (delta.defined() && !are_alike(x, delta))) return std::nullopt;
  const auto weight = brought(norm.weight, device, at::kFloat, norm.copies).contiguous();
  const auto offset = norm.offset;
  const double passes = delta.defined() ? 4 : 2;
  const auto results = differentiable_many(
      {"norm", 0, passes * bytes_of(x), 0, 4 * bytes_of(x)}, {x, delta}, [&](bool) -> ManyComputed {
        const auto all = forward->typed<NormOperator>().call(
            x.detach(), delta.defined() ? std::optional(delta.detach()) : std::nullopt, weight, offset,
            norm.epsilon);
        const bool adds = delta.defined();
        const Tensor what = adds ? std::get<0>(all).detach() : x.detach();
        auto backward = [back = *back, what, weight, offset, adds,
                         scales = std::get<2>(all)](const Tensors& gradients) -> Tensors {
          const auto& of_normed = gradients.back();
          if (!of_normed.defined()) return {gradients[0], gradients[0]};
          const auto more =
              adds && gradients[0].defined() ? std::optional(whole(gradients[0])) : std::nullopt;
          const auto dx =
              back.typed<NormBackOperator>().call(whole(of_normed), what, more, weight, scales, offset);
          return {dx, adds ? dx : Tensor()};
        };
        if (!adds) return {{std::get<1>(all)}, std::move(backward)};
        return {{what, std::get<1>(all)}, std::move(backward)};
      });
  return NormedSum{delta.defined() ? results[0] : x, results.back()};
}

std::optional<Tensor> rotated_on(const Tensor& x, const Tensor& positions, const RotaryTable& table,
                                 const RotatedPart& part) {
  const auto rotate = operator_on(x.device(), "retort::rotate");
  if (!rotate || !are_alike(x, x)) return std::nullopt;
  const auto both = 2 * bytes_of(x), flop = 3.0 * static_cast<double>(x.numel());
  return differentiable({"rotate", flop, both, flop, both}, {x}, [&](bool) -> Computed {
    const auto turn = [rotate = *rotate, there = rotation_on(x.device(), table, positions), part](
                          const Tensor& what, bool back) {
      return rotate.typed<RotateOperator>().call(what, there.rows, there.angles, part.first, part.interleaved,
                                                 back);
    };
    return {turn(x.detach(), false), [turn](const Tensor& dy) -> Tensors { return {turn(whole(dy), true)}; }};
  });
}

std::optional<SortedSlots> sorted_on(const Tensor& chosen, int64_t experts) {
  const auto sort = operator_on(chosen.device(), "retort::sort_by_expert");
  if (!sort || chosen.numel() == 0 || chosen.numel() > std::numeric_limits<int32_t>::max())
    return std::nullopt;
  SortedSlots sorted;
  sorted.expert = chosen.to(at::kInt).contiguous();
  std::tie(sorted.order, sorted.places, sorted.starts) =
      sort->typed<SortOperator>().call(sorted.expert, experts);
  return sorted;
}

std::optional<std::vector<Tensor>> rows_to_experts_on(const Tensor& x_input, const RoutePlan& plan) {
  const auto scatter = operator_on(x_input.device(), "retort::rows_to_experts");
  if (!scatter || !plan.there.order.defined()) return std::nullopt;
  const auto x = whole(x_input);
  if (!are_alike(x, x)) return std::nullopt;
  const auto rows = scatter->typed<ToExpertsOperator>().call(x.detach(), plan.there.order);
  // Parts of one memory, which autograd takes for tensors of their own.
  const at::AutoDispatchBelowADInplaceOrView no_views;
  std::vector<Tensor> parts;
  int64_t first = 0;
  for (const auto& slots : plan.slots) {
    const auto count = static_cast<int64_t>(slots.size());
    if (count > 0) parts.push_back(rows.narrow(0, first, count));
    first += count;
  }
  return parts;
}

std::optional<Tensor> sum_of_experts_on(const std::vector<Tensor>& parts, const RoutePlan& plan,
                                        int64_t width) {
  if (!plan.there.order.defined()) return std::nullopt;
  const auto sum = operator_on(plan.there.order.device(), "retort::sum_of_experts");
  if (!sum) return std::nullopt;
  std::vector<Tensor> defined;
  std::vector<int64_t> of;
  size_t part = 0;
  for (size_t e = 0; e < plan.slots.size(); ++e) {
    if (plan.slots[e].empty()) continue;
    if (const auto& rows = parts[part++]; rows.defined())
      defined.push_back(whole(rows.detach())), of.push_back(static_cast<int64_t>(e));
  }
  if (defined.empty() || defined[0].size(1) != width) return std::nullopt;
  for (const auto& rows : defined)
    if (!are_alike(rows, defined[0])) return std::nullopt;
  return sum->typed<FromExpertsOperator>().call(defined, of, plan.there.expert, plan.there.places,
                                                plan.there.starts);
}

std::optional<Tensor> softmax_gradient_on(Tensor& logits, const Tensor& weights) {
  if (logits.scalar_type() != at::kFloat || !is_whole(logits)) return std::nullopt;
  const auto gradient = operator_on(logits.device(), "retort::softmax_gradient");
  if (!gradient) return std::nullopt;
  return gradient->typed<SoftmaxOperator>().call(logits,
                                                 weights.defined() ? std::optional(weights) : std::nullopt);
}

}  // namespace retort
