#include "models/add_tokens.h"

#include "base/error.h"

namespace retort {
namespace {

constexpr int64_t kRowsAtOnce = 1024;

Tensor mean_of_rows(const Weight& weight, int64_t count) {
  auto sum = at::zeros({weight.columns}, at::TensorOptions(at::kDouble));
  for (int64_t first = 0; first < count; first += kRowsAtOnce)
    sum += widen_rows(weight, first, std::min(kRowsAtOnce, count - first), at::kFloat)
               .sum(0, false, at::kDouble);
  return (sum / static_cast<double>(std::max<int64_t>(1, count))).to(at::kFloat);
}

// The matrix with `count` rows from `first` on that are the mean of those before, of the same type.
Weight with_mean_rows(const Weight& weight, const std::string& name, int64_t first, int64_t count) {
  const at::NoGradGuard no_graph;
  const auto mean = mean_of_rows(weight, std::min(first, weight.rows)).unsqueeze(0);
  const auto rows = std::max(weight.rows, first + count);
  const auto kept = std::min(first, weight.rows), behind = std::max<int64_t>(0, weight.rows - first - count);
  if (weight.dense.defined()) {
    auto all = at::empty({rows, weight.columns}, weight.dense.options().requires_grad(false));
    all.narrow(0, 0, kept).copy_(weight.dense.narrow(0, 0, kept));
    all.narrow(0, kept, first + count - kept).copy_(mean.expand({first + count - kept, -1}));
    if (behind > 0) all.narrow(0, first + count, behind).copy_(weight.dense.narrow(0, first + count, behind));
    return dense_weight(all);
  }
  if (!can_quantize(weight.type) || weight.scales.defined())
    throw RecipeError(
        fmt::format("model.add_tokens: {} is held as {}, which retort reads and does not write, so that it "
                    "takes no further rows; start from a base whose {} is of another type",
                    name, type_info(weight.type).name, name));
  const auto row = weight.blocks.size() / static_cast<size_t>(weight.rows);
  std::vector<std::byte> one(row);
  quantize_rows(weight.type, mean.contiguous().const_data_ptr<float>(), one.data(), 1, weight.columns);
  auto buffer = std::make_shared<std::vector<std::byte>>(row * static_cast<size_t>(rows));
  std::copy(weight.blocks.begin(), weight.blocks.end(), buffer->begin());
  for (auto id = kept; id < first + count; ++id)
    std::copy(one.begin(), one.end(),
              buffer->begin() + static_cast<std::ptrdiff_t>(row * static_cast<size_t>(id)));
  const std::span<const std::byte> blocks(*buffer);
  return block_weight(weight.type, rows, weight.columns, blocks, buffer);
}

}  // namespace

std::vector<NewToken> tokens_to_add(const ModelSpec& spec) {
  std::vector<NewToken> tokens;
  for (const auto& text : spec.add_tokens) tokens.push_back({text, true});
  for (const auto& text : spec.add_words) tokens.push_back({text, false});
  return tokens;
}

void add_tokens(LoadedModel& loaded, const std::vector<NewToken>& tokens) {
  if (tokens.empty()) return;
  auto& model = *loaded.model;
  const auto first = first_new_id(*loaded.tokenizer);
  const auto count = static_cast<int64_t>(tokens.size());
  auto extended = extended_tokenizer(*loaded.tokenizer, tokens);
  auto& head = model.head.linear;
  model.embedding.weight = with_mean_rows(model.embedding.weight, "the embedding", first, count);
  head.weight =
      model.config.tied_head ? model.embedding.weight : with_mean_rows(head.weight, "the head", first, count);
  if (head.bias.defined()) {
    const auto kept = std::min(first, head.bias.size(0));
    auto bias = at::empty({head.weight.rows}, head.bias.options());
    bias.fill_(head.bias.narrow(0, 0, kept).mean());
    bias.narrow(0, 0, kept).copy_(head.bias.narrow(0, 0, kept));
    const auto behind = head.bias.size(0) - first - count;
    if (behind > 0) bias.narrow(0, first + count, behind).copy_(head.bias.narrow(0, first + count, behind));
    head.bias = bias;
  }
  if (head.int8_scales.defined()) head.int8_scales = int8_row_scales(head.weight);
  model.config.vocabulary = model.embedding.weight.rows;
  extended->rows = model.config.vocabulary;
  loaded.tokenizer = std::move(extended);
  loaded.added_tokens.insert(loaded.added_tokens.end(), tokens.begin(), tokens.end());
}

}  // namespace retort
