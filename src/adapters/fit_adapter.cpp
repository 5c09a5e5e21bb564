#include "adapters/fit_adapter.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "adapters/attach.h"
#include "base/error.h"
#include "base/json.h"
#include "formats/adapter_folder.h"
#include "models/tensor_names.h"
#include "models/text_part.h"
#include "quant/finite.h"

namespace retort {
namespace {

Tensor values_of(const TensorView& view) {
  if (const auto found = first_not_finite(view.type, view.data))
    corrupt(view.file->name(), view.name,
            fmt::format("holds a number that is not finite (element {}); is the file whole, and did its "
                        "training end well?",
                        *found));
  auto values = at::empty(view.shape, at::kFloat);
  dequantize_rows(view.type, view.data.data(), values.mutable_data_ptr<float>(), 1, view.elements());
  return values;
}

void require_shape(const std::string& file, const TensorView& tensor, const std::vector<int64_t>& expected) {
  if (tensor.shape == expected) return;
  corrupt(file, tensor.name,
          fmt::format("has shape [{}], this base needs [{}]; is it another model's adapter?",
                      fmt::join(tensor.shape, ", "), fmt::join(expected, ", ")));
}

using LayersByName = std::map<std::string, Linear*>;

Linear& layer_named(const LayersByName& layers, const std::string& name, const std::string& file) {
  // Of a model without its head, where it was trained so, the name begins with "layers.".
  for (const auto& whole : {name, "model." + name})
    if (const auto found = layers.find(whole); found != layers.end()) return *found->second;
  std::vector<std::string> known;
  for (const auto& [other, layer] : layers) known.push_back(other);
  const auto near = nearest(name, known);
  corrupt(file, name,
          fmt::format("the base has no such linear layer{}; is it another model's adapter?",
                      near.empty() ? "" : fmt::format(" (nearest: {})", near)));
}

// Of a layer that this base's files may have, and that was not read (model.mtp).
bool is_behind_the_last(const ModelConfig& config, const std::string& module) {
  if (!config.latent || config.mtp_layers > 0) return false;
  const auto behind = fmt::format("layers.{}.", config.layers);
  return module.starts_with(behind) || module.starts_with("model." + behind);
}

std::string entry(const std::map<std::string, std::string>& metadata, const char* key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? std::string() : found->second;
}

// Whether the file names another base by its hash. That is another model, and refused, unless one of the two
// is held in blocks: then it may be the same one in another precision.
bool of_another_file(const std::string& file, const LoadedModel& loaded,
                     const std::map<std::string, std::string>& metadata) {
  const auto hash = entry(metadata, kBaseHashKey);
  if (hash.empty() || hash == loaded.sha256.get()) return false;
  const auto linears = std::as_const(*loaded.model).linears();
  const auto then = type_from_name(entry(metadata, kBaseTypeKey));
  if (then && (is_block_quantized(*then) ||
               std::any_of(linears.begin(), linears.end(),
                           [](const auto* layer) { return is_block_quantized(layer->weight.type); })))
    return true;
  corrupt(file, kBaseHashKey,
          fmt::format("was trained on weights of sha256 {}, {} has {}; load it on its own base",
                      printable(hash), printable(loaded.path.string()), loaded.sha256.get()));
}

// Nobody can prove that it is the same model, so that is said; that it holds the adapter already can be seen.
void compare_bases(FittedAdapter& fitted, const LoadedModel& loaded,
                   const std::map<std::string, std::string>& metadata) {
  const auto pairs = fitted.pairs();
  const auto now = base_type(pairs);
  const auto then = type_from_name(entry(metadata, kBaseTypeKey)).value_or(now);
  const auto before = std::strtod(entry(metadata, kBaseProductKey).c_str(), nullptr);
  if (merged_share(pairs, before, is_block_quantized(then) ? then : now) > kMerged)
    corrupt(
        fitted.file, kBaseHashKey,
        fmt::format("{} holds this adapter already: its weights are those that it was trained on with its "
                    "update added; load it on its own base",
                    printable(loaded.path.string())));
  fitted.notes.push_back(
      fmt::format("{}: was trained on another file, of {} weights (sha256 {}...); {} has {} ({}...). Names "
                  "and shapes fit: if "
                  "both are the same model, it computes nearly what was trained",
                  printable(fitted.file), printable(entry(metadata, kBaseTypeKey)),
                  printable(entry(metadata, kBaseHashKey).substr(0, 16)), printable(loaded.path.string()),
                  type_info(now).name, loaded.sha256.get().substr(0, 16)));
}

// PEFT keeps the base's matrix beside the adapter of an embedding or a head. Where it is this base's, but for
// what a quantized file lost, it says nothing new.
void require_same_matrix(const Linear& layer, const TensorView& tensor, const std::string& file) {
  const auto& weight = layer.weight;
  if (tensor.shape.size() == 2 && tensor.shape[0] != weight.rows && tensor.shape[1] == weight.columns)
    corrupt(file, tensor.name,
            fmt::format("has rows of {} tokens, this base has {}: the adapter was trained with tokens that "
                        "were added to its base; add the same ones (model.add_tokens)",
                        tensor.shape[0], weight.rows));
  require_shape(file, tensor, {weight.rows, weight.columns});
  const auto theirs = values_of(tensor);
  double square = 0, apart = 0;
  constexpr int64_t kRowsAtOnce = 1024;
  for (int64_t first = 0; first < weight.rows; first += kRowsAtOnce) {
    const auto count = std::min(kRowsAtOnce, weight.rows - first);
    const auto ours = widen_rows(weight, first, count, at::kFloat).detach();
    square += ours.square().sum(at::kDouble).item<double>();
    apart += (theirs.narrow(0, first, count) - ours).square().sum(at::kDouble).item<double>();
  }
  const double most = is_block_quantized(weight.type) ? 0.5 : 0.02;  // of the matrix's size; 2 bits lose 0.3
  if (apart > most * most * square)
    corrupt(file, tensor.name,
            fmt::format("is not this base's matrix (they are {:.2g} of its size apart); load the adapter on "
                        "the base that it was trained on",
                        std::sqrt(apart / square)));
}

std::vector<NewToken> added_tokens_in(const std::string& file,
                                      const std::map<std::string, std::string>& metadata) {
  const auto stored = entry(metadata, kAddedTokensKey);
  std::vector<NewToken> tokens;
  if (stored.empty()) return tokens;
  const auto json = parse_json(stored, file);
  const auto fail = [&] {
    corrupt(file, kAddedTokensKey, "expected a list of tokens with text and special");
  };
  if (!json.is_array()) fail();
  for (const auto& token : json) {
    const auto text = token.is_object() ? token.find("text") : token.end();
    const auto special = token.is_object() ? token.find("special") : token.end();
    if (!token.is_object() || text == token.end() || special == token.end() || !text->is_string() ||
        !special->is_boolean())
      fail();
    tokens.push_back({text->get<std::string>(), special->get<bool>()});
  }
  return tokens;
}

// Ids behind the last mean what they meant when the adapter was trained.
void require_added_tokens(const std::string& file, const std::vector<NewToken>& tokens,
                          const LoadedModel& loaded) {
  if (tokens.empty() || tokens == loaded.added_tokens) return;
  std::vector<std::string> names;
  for (const auto& token : tokens) names.push_back(printable(token.text));
  corrupt(file, kAddedTokensKey,
          fmt::format("was trained with tokens that were added to its base, [{}]; add the same ones here "
                      "(model.add_tokens, model.add_words)",
                      fmt::join(names, ", ")));
}

FittedRows fit_rows(const PeftAdapter& peft, const Model& model, const std::string& file) {
  FittedRows fitted;
  for (const auto& [module, ids, tensor] : peft.rows) {
    const auto name = plain_module(module);
    const bool head = names_module(name, "lm_head");
    if (!head && !names_module(name, model.embedding.name))
      corrupt(file, tensor->name,
              "has rows of tokens of a matrix that is neither the embedding nor the head");
    if (head && model.config.tied_head)
      corrupt(file, tensor->name,
              "has rows of the head alone, and this base's head is its embedding; is it another model's "
              "adapter?");
    require_shape(file, *tensor, {static_cast<int64_t>(ids.size()), model.embedding.weight.columns});
    auto sorted = ids;
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
      corrupt(file, tensor->name, "has two rows of one token (trainable_token_indices)");
    if (sorted.back() >= model.embedding.weight.rows)
      corrupt(
          file, tensor->name,
          fmt::format("has a row of token {}, and this base has {}: the adapter was trained with tokens that "
                      "were added to its base; add the same ones (model.add_tokens)",
                      sorted.back(), model.embedding.weight.rows));
    if (!fitted.ids.empty() && sorted != fitted.ids)
      corrupt(file, tensor->name, "has rows of other tokens than the other matrix, which is not supported");
    const auto values = values_of(*tensor);
    auto& rows = head ? fitted.of_head : fitted.values;
    rows = at::empty_like(values);
    for (size_t i = 0; i < ids.size(); ++i)
      rows[std::lower_bound(sorted.begin(), sorted.end(), ids[i]) - sorted.begin()].copy_(
          values[static_cast<int64_t>(i)]);
    fitted.ids = std::move(sorted);
  }
  return fitted;
}

bool not_all_zeros(const Tensor& values) { return at::count_nonzero(values).item<int64_t>() > 0; }

// Gate and up of each expert share A, where B has rows of both; but each has a half of the rank of its own
// where the other's rows of B are zeros there, as in what was joined of two adapters. An expert whose part is
// all zeros has none.
void fit_stack(const PeftStack& stack, const std::map<std::string, std::vector<Linear*>>& of_stacks,
               double dropout, FittedAdapter& fitted) {
  const auto& file = fitted.file;
  const auto found = of_stacks.find(plain_module(stack.name));
  if (found == of_stacks.end())
    corrupt(file, stack.name, "the base has no such experts; is it another model's adapter?");
  const auto& linears = found->second;  // expert by expert; of gate and up the two of an expert in turn
  const bool both = linears[0]->place.role != Role::down;
  const auto experts = static_cast<int64_t>(linears.size()) / (both ? 2 : 1);
  const auto in = linears[0]->weight.columns, rows = linears[0]->weight.rows;
  const auto out = both ? 2 * rows : rows;
  require_shape(file, *stack.a, {experts * stack.rank, in});
  require_shape(file, *stack.b, {out, experts * stack.rank});
  const auto a = values_of(*stack.a).view({experts, stack.rank, in});
  const auto b = values_of(*stack.b).view({out, stack.rank, experts});
  const auto half = stack.rank / 2;
  const bool apart = both && stack.rank % 2 == 0 && not_all_zeros(b) &&  // as before any training
                     !not_all_zeros(b.narrow(0, 0, rows).narrow(1, half, half)) &&
                     !not_all_zeros(b.narrow(0, rows, rows).narrow(1, 0, half));
  for (size_t i = 0; i < linears.size(); ++i) {
    const auto expert = linears[i]->place.expert;
    const bool up = linears[i]->place.role == Role::up;
    const auto first = apart && up ? half : 0, rank = apart ? half : stack.rank;
    const auto own_a = a[expert].narrow(0, first, rank).contiguous();
    const auto own_b = b.select(2, expert).narrow(0, up ? rows : 0, rows).narrow(1, first, rank).contiguous();
    if (not_all_zeros(own_a) || not_all_zeros(own_b))
      fitted.layers.emplace_back(linears[i], low_rank(own_a, own_b, stack.scaling, dropout));
  }
}

void fit_stacks(const PeftAdapter& peft, const ModelConfig& config, const std::vector<Linear*>& linears,
                FittedAdapter& fitted) {
  if (peft.stacks.empty()) return;
  std::map<std::string, std::vector<Linear*>> of_stacks;
  for (auto* linear : linears)  // in the order gate, up, down of each expert
    if (linear->place.expert >= 0) of_stacks[stack_name(config, linear->place)].push_back(linear);
  for (const auto& stack : peft.stacks) fit_stack(stack, of_stacks, peft.config.lora_dropout, fitted);
}

FittedAdapter fit_folder(LoadedModel& loaded, const std::filesystem::path& folder) {
  const auto peft = open_adapter_folder(folder);
  FittedAdapter fitted;
  fitted.file = peft.file->path.string();
  const auto& file = fitted.file;
  require_added_tokens(file, added_tokens_in(file, peft.file->safetensors_metadata), loaded);
  const bool of_another = of_another_file(file, loaded, peft.file->safetensors_metadata);
  const at::NoGradGuard no_grad;
  LayersByName layers;
  for (auto* layer : loaded.model->matrices()) layers[layer->name] = layer;
  for (const auto& [name, tensor] : peft.bases)
    require_same_matrix(layer_named(layers, plain_module(name), file), *tensor, file);
  size_t behind = 0;
  for (const auto& module : peft.modules) {
    if (is_behind_the_last(loaded.model->config, plain_module(module.name))) {
      ++behind;
      continue;
    }
    auto& layer = layer_named(layers, plain_module(module.name), file);
    if (module.looked_up != (layer.place.role == Role::embedding))
      corrupt(file, module.name,
              module.looked_up ? "has an embedding's adapter (lora_embedding_A), and is none"
                               : "is an embedding, and has a linear layer's adapter (lora_A)");
    if (module.looked_up && !module.transposed && loaded.model->config.tied_head)
      corrupt(file, module.name,
              "is mlx-lm's adapter of an embedding that is the head too: it changes both, which is not read");
    const auto rank = module.a->shape[module.transposed ? 1 : 0];
    const auto in = layer.weight.columns, out = layer.weight.rows;
    const auto shape = [&](int64_t rows, int64_t columns) {
      return module.transposed ? std::vector<int64_t>{columns, rows} : std::vector<int64_t>{rows, columns};
    };
    require_shape(file, *module.a, shape(rank, in));
    require_shape(file, *module.b, shape(out, rank));
    const auto matrix = [&](const TensorView& view) {
      const auto values = values_of(view);
      return module.transposed ? values.t().contiguous() : values;
    };
    fitted.layers.emplace_back(
        &layer, low_rank(matrix(*module.a), matrix(*module.b), module.scaling, peft.config.lora_dropout));
    if (module.magnitude) fitted.layers.back().second.magnitude = values_of(*module.magnitude);
  }
  fit_stacks(peft, loaded.model->config, loaded.model->linears(), fitted);
  if (behind > 0 && fitted.layers.empty())
    corrupt(file, "",
            "adapts nothing but the layer behind the last, which predicts the token after the next and is "
            "not read here; set model.mtp: true");
  if (behind > 0)
    fitted.notes.push_back(fmt::format(
        "{}: {} of its layers belong to the layer behind the last, which predicts the token after the next "
        "and is not read here (model.mtp): they are left out",
        printable(file), behind));
  fitted.rows = fit_rows(peft, *loaded.model, file);
  for (const auto& [name, tensor] : peft.saved)
    fitted.saved.emplace_back(plain_module(name), values_of(*tensor));
  if (of_another) compare_bases(fitted, loaded, peft.file->safetensors_metadata);
  return fitted;
}

FittedAdapter fit_gguf(LoadedModel& loaded, const std::filesystem::path& path) {
  auto& model = *loaded.model;
  const auto weights = open_gguf(path);
  const auto file = path.string();
  const auto* kind = text(weights.metadata("adapter.type"));
  if (!kind || *kind != "lora") corrupt(file, "adapter.type", "expected 'lora'; is it a GGUF adapter?");
  const auto* architecture = text(weights.metadata("general.architecture"));
  if (!architecture || *architecture != gguf_architecture(model.config))
    corrupt(file, "general.architecture",
            fmt::format("is '{}', the base is '{}'; is it another model's adapter?",
                        architecture ? printable(*architecture) : "", gguf_architecture(model.config)));
  const auto alpha = real_number(weights.metadata("adapter.lora.alpha"));
  if (!alpha) corrupt(file, "adapter.lora.alpha", "is missing");

  const at::NoGradGuard no_grad;
  FittedAdapter fitted;
  fitted.file = file;
  auto& adapters = fitted.layers;
  std::set<const TensorView*> used;
  for (auto* layer : model.matrices()) {
    const auto gguf = gguf_tensor(model.config, layer->place);
    const bool looked_up = layer->place.role == Role::embedding;
    const auto* a = weights.find(gguf.name + ".lora_a");
    const auto* b = weights.find(gguf.name + ".lora_b");
    if (!a && !b) continue;
    if (!a || !b) corrupt(file, gguf.name, fmt::format("lora_{} is missing", a ? "b" : "a"));
    used.insert({a, b});
    if (looked_up) {  // A [V,rank] is looked up and multiplied with B [E,rank]
      if (a->shape.size() != 2) corrupt(file, a->name, "expected a matrix");
      const auto rank = a->shape[1];
      require_shape(file, *a, {layer->weight.rows, rank});
      require_shape(file, *b, {layer->weight.columns, rank});
      adapters.emplace_back(layer, low_rank(values_of(*b).t().contiguous(), values_of(*a),
                                            *alpha / static_cast<double>(rank), 0));
      continue;
    }
    const bool stacked = gguf.expert >= 0;  // of all of a layer's experts
    if (a->shape.size() != (stacked ? 3 : 2))
      corrupt(file, a->name, stacked ? "expected a matrix for each expert" : "expected a matrix");
    const auto rank = a->shape[stacked ? 1 : 0], experts = model.config.experts;
    require_shape(file, *a,
                  stacked ? std::vector<int64_t>{experts, rank, layer->weight.columns}
                          : std::vector<int64_t>{rank, layer->weight.columns});
    require_shape(file, *b,
                  stacked ? std::vector<int64_t>{experts, layer->weight.rows, rank}
                          : std::vector<int64_t>{layer->weight.rows, rank});
    if (stacked) {
      adapters.emplace_back(layer,
                            low_rank(values_of(*a)[gguf.expert].clone(), values_of(*b)[gguf.expert].clone(),
                                     *alpha / static_cast<double>(rank), 0));
      continue;
    }
    auto rows = values_of(*b);
    if (gguf.permuted_heads > 0) {
      const auto stored = rows;
      rows = at::empty_like(stored);
      for (int64_t row = 0; row < rows.size(0); ++row)
        rows[row].copy_(stored[gguf_row_of(row, gguf.permuted_heads, rows.size(0))]);
    }
    adapters.emplace_back(layer, low_rank(values_of(*a), rows, *alpha / static_cast<double>(rank), 0));
  }
  if (adapters.empty() || used.size() != weights.tensors.size())
    corrupt(file, "",
            fmt::format("{} of its {} tensors belong to layers of the base; is it another model's adapter?",
                        used.size(), weights.tensors.size()));
  return fitted;
}

}  // namespace

LowRank low_rank(Tensor a, Tensor b, double scaling, double dropout) {
  LowRank adapter;
  adapter.a = std::move(a);
  adapter.b = std::move(b);
  adapter.scaling = scaling;
  adapter.dropout = dropout;
  return adapter;
}

// Only after all of it has been read: a half-loaded adapter would be a third model.
void put_on(Model& model, FittedAdapter fitted) {
  const at::NoGradGuard no_grad;
  const auto& file = fitted.file;
  for (const auto& [name, values] : fitted.saved) {
    const auto module = name.substr(0, name.rfind('.'));
    try {
      train_module_whole(model, module);
    } catch (const RecipeError&) {
      corrupt(file, name, "the base has no such layer; is it another model's adapter?");
    }
  }
  for (auto& [layer, adapter] : fitted.layers) {
    adapter.a.requires_grad_(true);
    adapter.b.requires_grad_(true);
    if (adapter.magnitude.defined()) adapter.magnitude.requires_grad_(true);
    put_adapter(model, *layer, std::move(adapter));
  }
  if (!fitted.rows.ids.empty()) train_rows(model, fitted.rows.ids, fitted.rows.values, fitted.rows.of_head);
  const auto leaves = trainables(model);
  for (const auto& [name, values] : fitted.saved) {
    // Without a low-rank adapter beside it a leaf has the checkpoint's name.
    const auto leaf = std::find_if(leaves.begin(), leaves.end(), [&own = name](const NamedTensor& one) {
      return one.name == own || one.name == std::string(kPeftPrefix) + own;
    });
    if (leaf == leaves.end())
      corrupt(file, name, "the base has no such weight; is it another model's adapter?");
    if (leaf->tensor->sizes() != values.sizes())
      corrupt(file, name,
              fmt::format("has shape [{}], this base needs [{}]; is it another model's adapter?",
                          fmt::join(values.sizes(), ", "), fmt::join(leaf->tensor->sizes(), ", ")));
    leaf->tensor->copy_(values);
  }
}

std::vector<NewToken> tokens_added_for(const std::filesystem::path& path) {
  if (path.extension() == ".gguf") return {};
  const auto peft = open_adapter_folder(path);
  return added_tokens_in(peft.file->path.string(), peft.file->safetensors_metadata);
}

FittedAdapter fit_adapter(LoadedModel& loaded, const std::filesystem::path& path) {
  return path.extension() == ".gguf" ? fit_gguf(loaded, path) : fit_folder(loaded, path);
}

}  // namespace retort
