// A model is an embedding, a stack of layers, a final norm and a head; every layer is reachable on its own,
// so that a schedule may walk token-major or layer-major.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/later.h"
#include "models/config.h"
#include "models/model_spec.h"
#include "ops/head.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/pass.h"
#include "text/chat.h"
#include "text/extend_tokenizer.h"
#include "text/tokenizer.h"

namespace retort {

class LayerStream;  // models/layer_stream.h
struct SparseMlp;   // models/experts.h

template <class T> struct Named {
  std::string name;  // the checkpoint's (Hugging Face's spelling): "model.layers.0.input_layernorm.weight"
  T* tensor;
  TensorPlace place = {};
};
using NamedTensor = Named<Tensor>;

// What the losses of indexers (models/indexer.h) came to in training passes since somebody last asked.
class IndexLearned {
 public:
  struct Sum {
    double nats = 0;
    int64_t rows = 0;
  };
  void add(double nats, int64_t rows) {
    const std::lock_guard lock(mutex_);
    sum_.nats += nats, sum_.rows += rows;
  }
  Sum take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(sum_, {});
  }

 private:
  std::mutex mutex_;
  Sum sum_;
};

class Model {
 public:
  explicit Model(ModelConfig model_config) : config(std::move(model_config)) {}
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  virtual Tensor embed(const Pass& pass) const;                                      // [N,E]
  virtual Tensor layer(int64_t index, const Tensor& x, const Pass& pass) const = 0;  // [N,E] -> [N,E]
  virtual Tensor finish(const Tensor& x, const Pass& pass) const = 0;                // final norm

  // A layer whose feed-forward part is sparse, in two halves, so that a schedule may take one expert after
  // the other: layer() gives residual + experts(normed).
  struct Halfway {
    Tensor residual, normed;  // [N,E]
  };
  virtual const SparseMlp* experts_of(int64_t layer) const;  // nullptr: not such a layer
  // What a layer's indexer learned since somebody last asked; nothing where it has none.
  virtual IndexLearned* index_learned(int64_t layer) const;
  virtual Halfway before_experts(int64_t layer, const Tensor& x, const Pass& pass) const;

  // What the head tells the token after the next from, [N,E] or [pass.rows,E], where the layer behind the
  // last was read (config.mtp_layers). `before` [N,E]: of each row of the pass, the hidden state after the
  // final norm of the row in front of it.
  virtual Tensor mtp_states(const Tensor& before, const Pass& pass) const;

  // All of it: hidden states after the final norm [N,E], or [pass.rows,E] where only those are asked for.
  // With pass.recompute, layers are recomputed in backward.
  Tensor hidden(const Pass& pass) const;

  // Where passes over it are to be computed. Its weights stay in the CPU's memory: operations take them
  // along. RecipeError for a model that is read layer by layer, which only the CPU computes.
  void compute_on(at::Device where);
  at::Device device() const { return device_; }

  // Every linear layer inside the stack, in checkpoint order (the head is not among them).
  std::vector<Linear*> linears() { return linears_; }
  std::vector<const Linear*> linears() const { return {linears_.begin(), linears_.end()}; }
  // The embedding, linears() and the head: what an adapter may be put on. A tied head is among them, with the
  // embedding's matrix.
  std::vector<Linear*> matrices();
  std::vector<const Linear*> matrices() const;
  // Norms, biases and routers: what full fine-tuning trains besides the linears, the embedding and the head.
  // fp32, never quantized.
  std::vector<NamedTensor> vectors();
  std::vector<Named<const Tensor>> vectors() const;

  // The matrices of the layers stay in the file (LoadedModel::model alone, right after it was built).
  void read_layers_from(std::shared_ptr<LayerStream> stream);
  LayerStream* stream() const { return stream_.get(); }  // nullptr: they are in memory
  std::vector<const Linear*> linears_of(int64_t layer) const;

  ModelConfig config;
  Linear embedding;  // [V,E], whose rows are looked up
  Head head;         // head.linear.weight is the same Weight as embedding.weight when config.tied_head

 protected:
  // For the two lists above, in their order, once all layers are there. std::logic_error for a tensor whose
  // role nobody said, whose layer or expert the model has not, or whose place another one has.
  void list(Linear& linear);  // with its bias
  void list(Norm& norm);
  void list_router(Linear& router);
  void list(const TensorPlace& place, Tensor& vector);  // one that is none of a norm's or linear layer's

 private:
  void take_place(const TensorPlace& place);
  std::vector<Linear*> linears_;
  std::shared_ptr<LayerStream> stream_;
  at::Device device_ = at::kCPU;
  std::vector<NamedTensor> vectors_;  // every bias too, there or not
  std::set<TensorPlace> places_;
};

// What is trained inside each layer: what its computing again must be differentiable in.
struct LayerLeaf {
  Tensor tensor;
  TensorPlace place;
};
std::vector<std::vector<LayerLeaf>> layer_leaves(const Model& model);

// Fills a family's members from a file; the registry's rows.
std::unique_ptr<Model> build_model(const ModelConfig& config,
                                   const std::function<Linear(const TensorPlace& place)>& take_linear,
                                   const std::function<Tensor(const TensorPlace& place)>& take_vector,
                                   const std::function<Weight(const TensorPlace& place)>& take_matrix);

// A model without numbers, for what its shapes alone tell: no pass can run.
std::unique_ptr<Model> build_shape(const ModelConfig& config);
CacheShape cache_shape(const ModelConfig& config);
// Why texts of more tokens than the model's context are not computed, "this model's ..."; empty: they are.
std::string beyond_context_is(const ModelConfig& config);

// What came out of a model folder or a .gguf file.
struct LoadedModel {
  std::unique_ptr<Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string chat_template_source;    // jinja text, empty when the file has none
  std::vector<NewToken> added_tokens;  // tokens that are not in its files (models/add_tokens.h)
  const ChatTemplate* chat = nullptr;  // of that text; nullptr: there is none, or it cannot be read
  std::vector<std::pair<std::string, std::string>> other_templates;  // named ones beside it: "tool_use"
  std::string generation_settings;  // JSON: what generation_config.json says besides ids; empty = nothing
  std::filesystem::path path;
  bool multimodal = false;    // the folder holds more than this language model (models/text_part.h):
  size_t left_out = 0;        // so many tensors of other parts, which nothing here computes
  size_t beyond = 0;          // so many tensors of layers behind the last, which predict further tokens (MTP)
  Later<std::string> sha256;  // of the weight file(s), read for it on demand: who will ask begins it at once,
                              // others never wait for it
};

LoadedModel load_model(const ModelSpec& spec);
// The token that ends an answer of the model's template; nullopt where the tokenizer's EOS does, or no token.
std::optional<int32_t> end_of_answer(const LoadedModel& loaded);
// From here on the model is asked with `chat`, which its own files may not know: its text takes the place of
// theirs (none where it is not kept here: better than another), and what ends its answers ends texts.
void use_template(LoadedModel& loaded, const ChatTemplate& chat);
// The same without asking for a tokenizer: a folder's is not read, a GGUF file may lack one.
LoadedModel load_weights(const ModelSpec& spec);
// Throws FormatError when nothing is there: "`named`: no such ...", with the run that makes it where the path
// is that of an export.
void require_model_path(const std::string& named, const std::filesystem::path& path);

// f32 or bf16 as this machine is faster at (a measurement of under 100 ms), or as the spec says; bf16 where a
// device other than the CPU computes. RecipeError for int8 there.
at::ScalarType compute_type(const ModelSpec& spec, at::Device device = at::kCPU);

}  // namespace retort
