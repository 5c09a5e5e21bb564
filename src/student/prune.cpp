#include "student/prune.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <stdexcept>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "models/families.h"
#include "models/tensor_names.h"
#include "student/expert_cut.h"

namespace retort {
namespace {

// `count` of 0..layers-1, the first and the last among them, spread evenly.
std::vector<int64_t> spread(int64_t layers, int64_t count) {
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < count; ++i)
    kept.push_back(count == 1 ? 0 : (i * (layers - 1) + (count - 1) / 2) / (count - 1));
  return kept;
}

Tensor index_of(const std::vector<int64_t>& values) {
  return at::tensor(values, at::TensorOptions(at::kLong));
}

// Rows and columns to keep; empty = all.
struct Cut {
  std::vector<int64_t> rows, columns;
};

Weight cut_weight(const Weight& weight, const Cut& cut) {
  if (cut.rows.empty() && cut.columns.empty()) return weight;
  auto dense = weight.dense.defined() ? weight.dense : widen(weight, at::kFloat);
  if (!cut.rows.empty()) dense = dense.index_select(0, index_of(cut.rows));
  if (!cut.columns.empty()) dense = dense.index_select(1, index_of(cut.columns));
  return dense_weight(dense.contiguous());
}

// All rows of the kept heads.
std::vector<int64_t> head_rows(const std::vector<int64_t>& heads, int64_t head_dim) {
  std::vector<int64_t> rows;
  for (const auto head : heads)
    for (int64_t i = 0; i < head_dim; ++i) rows.push_back(head * head_dim + i);
  return rows;
}

class Cutter {
 public:
  Cutter(LoadedModel& source, const PruneSpec& spec, at::ScalarType compute, const Samples& samples,
         int64_t threads)
      : source_(source), spec_(spec), config_(source.model->config) {
    check();
    for (auto* linear : source.model->linears()) {
      if (linear->adapter)
        throw RecipeError(
            "prune: the model has an adapter; merge it first (export writes the merged folder)");
      linears_[linear->place] = linear;
    }
    for (const auto& [name, tensor, place] : source.model->vectors()) vectors_[place] = *tensor;
    if (spec.measures()) {
      const auto calibration = samples.list(0, std::min(samples.size(), static_cast<size_t>(spec.samples)));
      if (calibration.empty()) throw RecipeError("prune: there are no samples to measure activations on");
      importance_ = measure_importance(source, compute, calibration, threads);
    }
    choose_layers();
    if (spec.chooses_experts()) {
      experts_.emplace(spec, config_, importance_, layers_, linears_);
      lines_.insert(lines_.end(), experts_->lines.begin(), experts_->lines.end());
    }
    if (spec.hidden > 0) hidden_ = best(importance_.hidden, spec.hidden);
    if (spec.vocabulary) choose_tokens(samples);
    if (!spec.tokenizer.empty()) choose_tokenizer();
  }

  Pruned cut() {
    Pruned pruned;
    auto config = config_;
    config.layers = static_cast<int64_t>(layers_.size());
    if (spec_.intermediate > 0) config.intermediate = spec_.intermediate;
    if (spec_.kv_heads > 0)
      config.heads = config.heads / config.kv_heads * spec_.kv_heads, config.kv_heads = spec_.kv_heads;
    if (spec_.hidden > 0) { config.hidden = spec_.hidden; }
    if (experts_) {
      pruned.experts = experts_->kept();
      config.experts = static_cast<int64_t>(pruned.experts.front().size());
      config.experts_per_token = std::min(config.experts_per_token, config.experts);
    }
    for (auto of_layers :
         {&ModelConfig::dense_layers, &ModelConfig::unrotated_layers, &ModelConfig::sliding_layers}) {
      const auto& all = config_.*of_layers;
      if (all.empty()) continue;
      (config.*of_layers).clear();
      for (const auto layer : layers_) (config.*of_layers).push_back(all[static_cast<size_t>(layer)]);
    }
    if (spec_.vocabulary) rename_tokens(config);
    if (other_.tokenizer) name_ends(config);
    auto& out = pruned.model;
    out.model = build_model(
        config, [&](const TensorPlace& place) { return linear(place); },
        [&](const TensorPlace& place) { return vector(place); },
        [&](const TensorPlace&) { return token_rows(source_.model->embedding.weight); });
    out.tokenizer = other_.tokenizer   ? other_.tokenizer
                    : spec_.vocabulary ? tokens_.tokenizer
                                       : source_.tokenizer;
    if (!other_.tokenizer) {  // the control tokens of a template are those of its tokenizer
      out.chat_template_source = source_.chat_template_source;
      out.chat = source_.chat;
      out.other_templates = source_.other_templates;
    }
    out.path = source_.path;
    pruned.layers = layers_;
    pruned.kept = lines_;
    std::string made = source_.sha256.get();
    for (const auto& line : lines_) made += "\n" + line;
    out.sha256 = sha256(made);  // another model than its source
    return pruned;
  }

 private:
  bool narrows() const { return spec_.intermediate > 0 || spec_.kv_heads > 0 || spec_.hidden > 0; }

  void check() const {
    const auto at_most = [](const char* key, int64_t wanted, int64_t there) {
      if (wanted > there)
        throw RecipeError(fmt::format("prune.{}: {} asked for, the model has {}", key, wanted, there));
    };
    at_most("layers", spec_.layers, config_.layers);
    at_most("intermediate", spec_.intermediate, config_.intermediate);
    at_most("kv_heads", spec_.kv_heads, config_.kv_heads);
    at_most("hidden", spec_.hidden, config_.hidden);
    const auto rising = [](const char* key, const char* one, const std::vector<int64_t>& numbers,
                           int64_t there) {
      for (size_t i = 0; i < numbers.size(); ++i) {
        if (numbers[i] >= there)
          throw RecipeError(fmt::format("prune.{}: {} {} is asked for; the model has {}, counted from 0", key,
                                        one, numbers[i], there));
        if (i > 0 && numbers[i] <= numbers[i - 1])
          throw RecipeError(fmt::format("prune.{}: expected rising numbers, each once", key));
      }
    };
    rising("keep_layers", "layer", spec_.keep_layers, config_.layers);
    if (!spec_.keep_layers.empty() && spec_.layers > 0)
      throw RecipeError("prune: give layers or keep_layers, not both");
    check_experts(spec_, config_);
    rising("keep_experts", "expert", spec_.keep_experts, config_.experts);
    if (spec_.keep_layers.empty() && spec_.layers == 0 && !narrows() && !spec_.chooses_experts() &&
        !spec_.vocabulary && spec_.tokenizer.empty())
      throw RecipeError(
          "prune: nothing is cut; set layers, keep_layers, experts, keep_experts, intermediate, kv_heads, "
          "hidden, vocabulary or tokenizer");
    if (spec_.vocabulary && !spec_.tokenizer.empty())
      throw RecipeError("prune: give vocabulary or tokenizer, not both");
    if (config_.latent && (narrows() || spec_.chooses_experts()))
      throw RecipeError(fmt::format("prune: of a {} layers and the vocabulary are cut only", config_.family));
    if (narrows() && family_of(config_).fused_projections)
      throw RecipeError(fmt::format(
          "prune: {} keeps its projections fused; cut layers or the vocabulary only", config_.family));
  }

  void choose_layers() {
    std::string why = "named";
    if (!spec_.keep_layers.empty()) {
      layers_ = spec_.keep_layers;
    } else if (spec_.layers == 0) {
      layers_ = best(std::vector<double>(static_cast<size_t>(config_.layers)), 0);
      return;
    } else if (spec_.rank_layers == "even") {
      layers_ = spread(config_.layers, spec_.layers);
      why = "spread evenly";
    } else {
      layers_ = best(importance_.layers, spec_.layers);
      why = "of the largest influence (1 - cosine):";
      for (const auto layer : layers_)
        why += fmt::format(" {:.3f}", importance_.layers[static_cast<size_t>(layer)]);
    }
    std::string numbers;
    for (const auto layer : layers_) numbers += fmt::format("{}{}", numbers.empty() ? "" : " ", layer);
    lines_.push_back(fmt::format("layers {} of {}: {}; {}", layers_.size(), config_.layers, numbers, why));
  }

  void choose_tokens(const Samples& samples) {
    if (!source_.tokenizer) throw RecipeError("prune.vocabulary: the model has no tokenizer");
    std::vector<bool> used(static_cast<size_t>(source_.tokenizer->size()));
    for (const auto& sample : samples)
      for (const auto token : sample.tokens) used.at(static_cast<size_t>(token)) = true;
    tokens_ = trim_tokenizer(*source_.tokenizer, used);
    lines_.push_back(fmt::format(
        "tokens {} of {}: those of {} samples, control tokens, bytes and what they are merged from",
        tokens_.former.size(), config_.vocabulary, samples.size()));
  }

  void choose_tokenizer() {
    if (!source_.tokenizer)
      throw RecipeError("prune.tokenizer: the model has no tokenizer of its own to start from");
    const std::filesystem::path path = spec_.tokenizer;
    if (!std::filesystem::exists(path))
      throw RecipeError(
          fmt::format("prune.tokenizer: {}: no such file or folder", printable(spec_.tokenizer)));
    std::shared_ptr<const Tokenizer> tokenizer =
        std::filesystem::is_directory(path) ? tokenizer_from_folder(path.string())
                                            : tokenizer_from_sentencepiece(read_text(path), path.string());
    other_ = transplant_tokenizer(*source_.tokenizer, std::move(tokenizer));
    size_t parts = 0;
    for (const auto& old : other_.former) parts += old.size();
    lines_.push_back(fmt::format("tokenizer {}: {} tokens, each the mean of {:.2f} of the {} old ones",
                                 path.filename().string(), other_.former.size(),
                                 static_cast<double>(parts) / static_cast<double>(other_.former.size()),
                                 config_.vocabulary));
  }

  void name_ends(ModelConfig& config) const {
    const auto& tokenizer = *other_.tokenizer;
    config.vocabulary = tokenizer.size();
    config.eos.clear();
    if (tokenizer.eos) config.eos.push_back(*tokenizer.eos);
    config.bos = tokenizer.bos;
    config.pad = tokenizer.pad;
  }

  // The matrix of the embedding or the head, for the student's tokens.
  Weight token_rows(const Weight& weight) const {
    if (!other_.tokenizer)
      return cut_weight(weight, {tokens_.former.empty() ? std::vector<int64_t>{} : former(), hidden_});
    const auto old = widen(weight, at::kFloat);
    auto rows =
        at::empty({static_cast<int64_t>(other_.former.size()), old.size(1)}, at::TensorOptions(at::kFloat));
    for (size_t i = 0; i < other_.former.size(); ++i)
      rows[static_cast<int64_t>(i)].copy_(
          old.index_select(0, index_of({other_.former[i].begin(), other_.former[i].end()})).mean(0));
    return cut_weight(dense_weight(rows), {{}, hidden_});
  }

  void rename_tokens(ModelConfig& config) const {
    std::vector<int32_t> now(static_cast<size_t>(config_.vocabulary), -1);
    for (size_t i = 0; i < tokens_.former.size(); ++i)
      now[static_cast<size_t>(tokens_.former[i])] = static_cast<int32_t>(i);
    config.vocabulary = static_cast<int64_t>(tokens_.former.size());
    for (auto& id : config.eos) id = now.at(static_cast<size_t>(id));
    std::erase(config.eos, -1);
    for (auto* id : {&config.bos, &config.pad})
      if (*id)
        *id = now.at(static_cast<size_t>(**id)) < 0 ? std::nullopt
                                                    : std::optional(now[static_cast<size_t>(**id)]);
  }

  std::vector<int64_t> former() const { return {tokens_.former.begin(), tokens_.former.end()}; }

  // A place of the student in the source.
  TensorPlace source_place(TensorPlace place) const {
    if (place.layer >= 0) place.layer = layers_.at(static_cast<size_t>(place.layer));
    return place;
  }

  // Rows of k and v, and of q, whose heads stay in a layer; empty: all of them.
  std::vector<int64_t> key_rows(int64_t layer) const { return head_rows(groups(layer), config_.head_dim); }
  std::vector<int64_t> query_rows(int64_t layer) const {
    std::vector<int64_t> heads;
    const auto each = config_.heads / config_.kv_heads;
    for (const auto group : groups(layer))
      for (int64_t i = 0; i < each; ++i) heads.push_back(group * each + i);
    return head_rows(heads, config_.head_dim);
  }
  std::vector<int64_t> groups(int64_t layer) const {
    return spec_.kv_heads > 0 ? best(importance_.kv_heads[static_cast<size_t>(layer)], spec_.kv_heads)
                              : std::vector<int64_t>{};
  }

  Cut cut_of(const Linear& from) const {
    const auto layer = from.place.layer;
    const auto channels = [&] {
      return spec_.intermediate > 0
                 ? best(importance_.intermediate[static_cast<size_t>(layer)], spec_.intermediate)
                 : std::vector<int64_t>{};
    };
    switch (from.place.role) {
      case Role::q: return {query_rows(layer), hidden_};
      case Role::k:
      case Role::v: return {key_rows(layer), hidden_};
      case Role::o: return {hidden_, query_rows(layer)};
      case Role::gate:
      case Role::up: return {channels(), hidden_};
      case Role::down: return {hidden_, channels()};
      default: throw std::logic_error(from.name + ": nobody said how a matrix of this role is cut");
    }
  }

  Linear linear(const TensorPlace& student) {
    Linear layer;
    if (student.role == Role::head) {
      layer.weight = token_rows(source_.model->head.linear.weight);
      return layer;
    }
    const auto place = source_place(student);
    if (student.expert >= 0 && experts_) {
      layer.weight = experts_->matrix(place.layer, student);
      return layer;
    }
    const auto& from = *linears_.at(place);
    const auto cut = narrows() ? cut_of(from) : Cut{};
    layer.weight = cut_weight(base_matrix(from).weight, cut);
    if (from.bias.defined())
      layer.bias = cut.rows.empty() ? from.bias : from.bias.index_select(0, index_of(cut.rows));
    return layer;
  }

  Tensor vector(const TensorPlace& student) {
    const auto place = source_place(student);
    const auto values = vectors_.at(place).detach();
    switch (place.role) {
      case Role::router:
        return experts_ ? values.index_select(0, index_of(experts_->kept(place.layer))) : values.clone();
      // Of one head's width, or of all heads at once (Olmo).
      case Role::q_norm:
      case Role::k_norm: {  // of one head's width, or of all heads at once (Olmo)
        if (values.numel() == config_.head_dim) return values.clone();
        const auto rows = place.role == Role::q_norm ? query_rows(place.layer) : key_rows(place.layer);
        return rows.empty() ? values.clone() : values.index_select(0, index_of(rows));
      }
      case Role::q_a_norm:  // of models that keep their widths and their experts
      case Role::kv_a_norm:
      case Role::router_bias:
      case Role::index_k_norm: return values.clone();
      case Role::final_norm:
      case Role::attention_norm:
      case Role::after_attention_norm:
      case Role::mlp_norm:
      case Role::after_mlp_norm:
        return hidden_.empty() ? values.clone() : values.index_select(0, index_of(hidden_));
      default:
        throw std::logic_error(tensor_name(config_, place) +
                               ": nobody said how a vector of this role is cut");
    }
  }

  LoadedModel& source_;
  const PruneSpec& spec_;
  const ModelConfig& config_;
  LinearsByPlace linears_;
  std::map<TensorPlace, Tensor> vectors_;
  Importance importance_;
  std::vector<int64_t> layers_, hidden_;
  std::optional<ExpertCut> experts_;  // nullopt: all are kept
  TrimmedTokenizer tokens_;
  TransplantedTokenizer other_;
  std::vector<std::string> lines_;
};

}  // namespace

Pruned prune(LoadedModel& source, at::ScalarType compute, const PruneSpec& spec, const Samples& samples,
             int64_t threads) {
  const auto& config = source.model->config;
  Cutter cutter(source, spec, compute, samples, threads);
  auto pruned = cutter.cut();
  const auto width = [&](const char* what, int64_t kept, int64_t of) {
    if (kept > 0)
      pruned.kept.push_back(fmt::format("{} {} of {}: the largest activations over {} samples", what, kept,
                                        of,
                                        std::min<size_t>(samples.size(), static_cast<size_t>(spec.samples))));
  };
  width("feed-forward channels", spec.intermediate, config.intermediate);
  width("key/value heads", spec.kv_heads, config.kv_heads);
  width("embedding channels", spec.hidden, config.hidden);
  return pruned;
}

}  // namespace retort
