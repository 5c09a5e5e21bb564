#include "run/model_bom.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/hash.h"
#include "run/cyclonedx.h"
#include "run/model_card.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

// What the training was told, by the recipe's names.
OrderedJson settings_of(const Recipe& recipe, const TrainingResult& training) {
  OrderedJson settings = OrderedJson::object();
  const auto& adapter = recipe.adapter;
  settings["model.weights"] = recipe.model.weights;
  settings["adapter.kind"] = adapter.kind;
  if (adapter.low_rank()) {
    settings["adapter.rank"] = adapter.rank;
    settings["adapter.alpha"] = adapter.alpha;
    settings["adapter.dropout"] = adapter.dropout;
    settings["adapter.targets"] = adapter.targets;
    if (!adapter.modules_to_save.empty()) settings["adapter.modules_to_save"] = adapter.modules_to_save;
  }
  if (adapter.kind == "none") return settings;
  const auto& train = recipe.train;
  settings["train.steps"] = training.steps;
  settings["train.seed"] = train.seed;
  settings["train.batch.samples"] = train.batch.samples;
  settings["train.batch.tokens"] = train.batch.tokens;
  settings["train.optimizer.kind"] = train.optimizer.kind;
  settings["train.optimizer.learning_rate"] = train.optimizer.learning_rate;
  settings["train.optimizer.betas"] = train.optimizer.betas;
  settings["train.optimizer.weight_decay"] = train.optimizer.weight_decay;
  settings["train.optimizer.clip_norm"] = train.optimizer.clip_norm;
  settings["train.schedule.kind"] = train.schedule.kind;
  settings["train.schedule.warmup_steps"] = train.schedule.warmup_steps;
  settings["train.neftune_alpha"] = train.neftune_alpha;
  settings["data.loss"] = recipe.data.loss;
  if (recipe.distill) {
    settings["distill.loss"] = recipe.distill->loss;
    settings["distill.temperature"] = recipe.distill->temperature;
    settings["distill.weight"] = recipe.distill->weight;
  }
  return settings;
}

std::string preparation_of(const Recipe& recipe) {
  const auto& data = recipe.data;
  std::vector<std::string> parts = {
      fmt::format("samples of at most {} tokens (data.length: {})", data.sample_tokens, data.length),
      "learned: " + data.loss};
  if (data.near_duplicates.remove)
    parts.push_back(fmt::format("near duplicates from a similarity of {:g} on left out",
                                data.near_duplicates.similarity));
  if (data.personal_data == "leave_out")
    parts.emplace_back("records with personal data that shows by its form left out");
  if (!data.forget.empty()) parts.emplace_back("records of a list that are to be forgotten left out");
  return fmt::format("{}", fmt::join(parts, "; "));
}

// The names by which readers of such bills look for numbers: OWASP's property taxonomy.
void add_shape(OrderedJson& properties, const BomShape& shape) {
  const auto& config = shape.config;
  const auto add = [&](const char* name, int64_t value) {
    if (value > 0)
      add_bom_property(properties, fmt::format("genai:aibom:modelcard:{}", name), std::to_string(value));
  };
  add("vocabSize", config.vocabulary);
  add("contextLength", config.context);
  add("embeddingLength", config.hidden);
  add("blockCount", config.layers);
  add("attentionHeadCount", config.heads);
  add("attentionHeadCountKV", config.kv_heads);
  add("feedForwardLength", config.intermediate);
  const auto rotated = config.latent ? static_cast<double>(config.latent->rope_dim)
                                     : static_cast<double>(config.head_dim) * config.rope.partial;
  add("ropeDimensionCount", std::llround(rotated));
  if (!shape.tokenizer.empty())
    add_bom_property(properties, "genai:aibom:modelcard:tokenizerClass", shape.tokenizer);
}

class Bill {
 public:
  Bill(const BomInputs& inputs, const std::vector<BomExport>& exports)
      : inputs_(inputs), exports_(exports), recipe_(inputs.recipe) {}

  OrderedJson made() {
    for (const auto& one : exports_) add_export(one);
    add_base();
    for (const auto& adapter : inputs_.adapters)
      add_part("adapter", adapter, "an adapter that was in the base before the training");
    if (inputs_.teacher) add_part("teacher", *inputs_.teacher, "the teacher");
    for (size_t i = 0; i < inputs_.sources.size(); ++i) add_source(i);
    for (const auto& file : inputs_.questions) add_questions(file);

    OrderedJson bom = OrderedJson::object();
    bom["$schema"] = "http://cyclonedx.org/schema/bom-1.7.schema.json";
    bom["bomFormat"] = "CycloneDX";
    bom["specVersion"] = "1.7";
    bom["version"] = 1;
    bom["metadata"] = metadata();
    bom["components"] = std::move(components_);
    bom["dependencies"] = dependencies();
    bom["compositions"] = compositions();
    // Of what it says, so that the same bill has the same number: a UUID of version 8 (RFC 9562).
    auto id = sha256(bom_text(bom)).substr(0, 32);
    id[12] = '8', id[16] = 'a';
    for (const size_t at : {20, 16, 12, 8}) id.insert(at, "-");
    bom["serialNumber"] = "urn:uuid:" + id;
    return bom;
  }

 private:
  OrderedJson metadata() const {
    OrderedJson tool = OrderedJson::object();
    tool["type"] = "application";
    tool["name"] = "retort";
    tool["version"] = RETORT_VERSION;
    OrderedJson tools = OrderedJson::object();
    tools["components"] = OrderedJson::array();
    tools["components"].push_back(std::move(tool));

    OrderedJson trained = OrderedJson::object();
    trained["type"] = "machine-learning-model";
    trained["bom-ref"] = kTrained;
    trained["name"] = model_title(recipe_);
    std::vector<FileRecord> all;
    for (const auto& one : exports_) all.insert(all.end(), one.files.begin(), one.files.end());
    if (!all.empty()) trained["version"] = bom_hash(all).substr(0, 12);
    if (!recipe_.card.license.empty()) trained["licenses"] = bom_licenses(recipe_.card.license);
    add_supplier(trained);
    trained["externalReferences"] = OrderedJson::array();
    trained["externalReferences"].push_back(reference("documentation", inputs_.card));

    OrderedJson metadata = OrderedJson::object();
    OrderedJson phase = OrderedJson::object();
    phase["phase"] = "build";
    metadata["lifecycles"] = OrderedJson::array();
    metadata["lifecycles"].push_back(std::move(phase));
    metadata["tools"] = std::move(tools);
    metadata["component"] = std::move(trained);
    metadata["properties"] = properties();
    return metadata;
  }

  OrderedJson properties() const {
    auto list = OrderedJson::array();
    const auto& result = inputs_.result;
    add_bom_property(list, "primaryPurpose", "text-generation");
    if (result.training.steps > 0)
      add_bom_property(list, "informationAboutTraining",
                       fmt::format("{} steps, {} tokens; {}", result.training.steps, result.training.tokens,
                                   computation_line(result.training, recipe_.card)));
    if (!recipe_.card.intended_use.empty())
      for (const char* name : {"informationAboutApplication", "intendedUse"})
        add_bom_property(list, name, recipe_.card.intended_use);
    add_bom_property(list, "modelDataPreprocessing", preparation_of(recipe_));
    add_stated(list);
    std::vector<std::string> names, bounds;
    for (const auto& task : result.tuned.tasks)
      for (const auto& [name, value] : task.metrics) names.push_back(task.task + "." + name);
    if (!names.empty()) add_bom_property(list, "metric", fmt::format("{}", fmt::join(names, ", ")));
    for (const auto& [line, passed] : inputs_.gates)
      bounds.push_back(fmt::format("{}: {}", line, passed ? "passed" : "failed"));
    if (!bounds.empty())
      add_bom_property(list, "metricDecisionThreshold", fmt::format("{}", fmt::join(bounds, "\n")));
    std::vector<std::string> people;
    if (!recipe_.card.personal_data.empty()) people.push_back(recipe_.card.personal_data);
    if (recipe_.is_private) people.emplace_back("the recipe says that its samples are private");
    if (recipe_.data.personal_data == "leave_out")
      people.emplace_back("records with personal data that shows by its form were left out");
    if (!people.empty())
      add_bom_property(list, "useSensitivePersonalInformation", fmt::format("{}", fmt::join(people, "; ")));
    return list;
  }

  // What only the recipe's card says, by the names that readers of such bills look for.
  void add_stated(OrderedJson& list) const {
    const auto& card = recipe_.card;
    for (const auto& [name, value] : {std::pair<const char*, std::string>("suppliedBy", card.supplier.name),
                                      {"domain", card.domain},
                                      {"autonomyType", card.autonomy},
                                      {"standardCompliance", card.standards},
                                      {"safetyRiskAssessment", card.risk_assessment}})
      if (!value.empty()) add_bom_property(list, name, value);
    if (card.energy_kwh == 0) return;
    const auto quantity = fmt::format("{:g}", card.energy_kwh);
    add_bom_property(list, "energyConsumption", quantity + " kWh, as whoever trained it states");
    add_bom_property(list, "energyQuantity", quantity);
    add_bom_property(list, "energyUnit", "kWh");
  }

  void add_supplier(OrderedJson& component) const {
    const auto& [name, url, contact] = recipe_.card.supplier;
    if (name.empty() && url.empty() && contact.empty()) return;
    OrderedJson supplier = OrderedJson::object();
    if (!name.empty()) supplier["name"] = name;
    if (!url.empty()) supplier["url"] = OrderedJson::array({url});
    if (!contact.empty()) {
      const bool is_address =
          contact.find('@') != std::string::npos && contact.find(' ') == std::string::npos;
      OrderedJson one = OrderedJson::object();
      one[is_address ? "email" : "name"] = contact;
      supplier["contact"] = OrderedJson::array();
      supplier["contact"].push_back(std::move(one));
    }
    component["supplier"] = std::move(supplier);
  }

  static OrderedJson reference(const char* type, const FileRecord& file) {
    OrderedJson reference = OrderedJson::object();
    reference["type"] = type;
    reference["url"] = percent_encoded(file.path);
    if (!file.sha256.empty()) reference["hashes"] = bom_hashes(file.sha256);
    return reference;
  }

  void add_export(const BomExport& one) {
    const auto& model = *one.model;
    const auto name = fs::path(model.name).filename().string();
    const auto content = bom_hash(one.files);
    OrderedJson component = OrderedJson::object();
    component["type"] = "machine-learning-model";
    component["bom-ref"] = model.name;
    component["name"] = name;
    component["version"] = content.substr(0, 12);
    component["description"] =
        fmt::format("{}: {}, {}", model_title(recipe_), model.artefact->kind, model.artefact->label);
    if (!recipe_.card.license.empty()) component["licenses"] = bom_licenses(recipe_.card.license);
    add_supplier(component);
    auto purl = fmt::format("pkg:generic/{}@{}", percent_encoded(name), content.substr(0, 12));
    if (one.files.size() == 1) purl += "?checksum=sha256:" + content;
    component["purl"] = purl;
    component["pedigree"] = pedigree();
    component["externalReferences"] = OrderedJson::array();
    for (const auto& file : one.files)  // beside this bill
      if (is_weights(file.path)) component["externalReferences"].push_back(reference("distribution", file));
    component["externalReferences"].push_back(reference("model-card", inputs_.card));
    for (const auto& [type, url] : {std::pair<const char*, std::string>("vcs", recipe_.card.repository),
                                    {"website", recipe_.card.website}}) {
      if (url.empty()) continue;
      OrderedJson stated = OrderedJson::object();
      stated["type"] = type;
      stated["url"] = url;
      component["externalReferences"].push_back(std::move(stated));
    }
    auto properties = OrderedJson::array();
    add_bom_property(properties, "retort:kind", model.artefact->kind);
    add_bom_property(properties, "retort:label", model.artefact->label);
    add_bom_files(component, model.name, one.files, properties);
    component["modelCard"] = model_card_of(one);
    component["properties"] = std::move(properties);
    components_.push_back(std::move(component));
  }

  static bool is_weights(const std::string& path) {
    return path.ends_with(".gguf") || path.ends_with(".safetensors");
  }

  OrderedJson pedigree() const {
    OrderedJson base = OrderedJson::object();
    base["type"] = "machine-learning-model";
    base["name"] = base_name();
    if (const auto purl = hub_purl(recipe_.card.base_model); !purl.empty()) base["purl"] = purl;
    if (inputs_.base.files.size() == 1) base["hashes"] = bom_hashes(inputs_.base.files.front().sha256);
    OrderedJson pedigree = OrderedJson::object();
    pedigree["ancestors"] = OrderedJson::array();
    pedigree["ancestors"].push_back(std::move(base));
    return pedigree;
  }

  const std::string& base_name() const {
    return recipe_.card.base_model.empty() ? inputs_.base.name : recipe_.card.base_model;
  }

  OrderedJson model_card_of(const BomExport& one) const {
    const auto& result = inputs_.result;
    OrderedJson parameters = OrderedJson::object();
    if (result.training.steps > 0) {
      OrderedJson approach = OrderedJson::object();
      approach["type"] = recipe_.data.loss == "all" && !recipe_.distill ? "self-supervised" : "supervised";
      parameters["approach"] = std::move(approach);
    }
    parameters["task"] = "text-generation";
    if (one.shape) {
      parameters["architectureFamily"] = one.shape->config.family;
      parameters["modelArchitecture"] = one.shape->config.hf_architecture;
    } else if (!result.samples.architecture.empty()) {
      parameters["modelArchitecture"] = result.samples.architecture;  // of the base, in words
    }
    parameters["datasets"] = OrderedJson::array();
    for (size_t i = 0; i < inputs_.sources.size(); ++i) {
      OrderedJson data = OrderedJson::object();
      data["ref"] = source_ref(i);
      parameters["datasets"].push_back(std::move(data));
    }
    for (const auto& name : recipe_.card.datasets) {
      OrderedJson data = OrderedJson::object();
      data["type"] = "dataset";
      data["name"] = name;
      parameters["datasets"].push_back(std::move(data));
    }
    OrderedJson text = OrderedJson::object();
    text["format"] = "text";
    for (const char* side : {"inputs", "outputs"}) {
      parameters[side] = OrderedJson::array();
      parameters[side].push_back(text);
    }

    OrderedJson card = OrderedJson::object();
    card["modelParameters"] = std::move(parameters);
    auto metrics = bom_metrics(scores_of_export(result, *one.model));
    if (const auto& agreement = one.model->agreement) {
      const auto slice = fmt::format(
          "{} tokens of samples that were not trained on, against the trained model", agreement->rows);
      if (std::isfinite(agreement->kl_nats))
        metrics.push_back(bom_metric("comparison.kl_nats", fmt::format("{:.6g}", agreement->kl_nats), slice));
      if (std::isfinite(agreement->top1))
        metrics.push_back(bom_metric("comparison.top1", fmt::format("{:.6g}", agreement->top1), slice));
    }
    if (!metrics.empty()) {
      card["quantitativeAnalysis"] = OrderedJson::object();
      card["quantitativeAnalysis"]["performanceMetrics"] = std::move(metrics);
    }
    card["considerations"] = considerations();
    auto properties = OrderedJson::array();
    add_bom_property(
        properties, "genai:aibom:modelcard:hyperparameter",
        settings_of(recipe_, result.training).dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
    if (!recipe_.card.explainability.empty())
      add_bom_property(properties, "genai:aibom:modelcard:modelCardExplainability",
                       recipe_.card.explainability);
    if (one.shape) add_shape(properties, *one.shape);
    if (one.model->artefact->kind == "gguf") {
      if (one.shape && !one.shape->quantization_version.empty())
        add_bom_property(properties, "genai:aibom:modelcard:quantizationVersion",
                         one.shape->quantization_version);
      add_bom_property(properties, "genai:aibom:modelcard:quantizationFileType", one.model->artefact->label);
    }
    card["properties"] = std::move(properties);
    return card;
  }

  OrderedJson considerations() const {
    OrderedJson said = OrderedJson::object();
    if (!recipe_.card.intended_use.empty()) {
      said["useCases"] = OrderedJson::array();
      said["useCases"].push_back(recipe_.card.intended_use);
    }
    if (!recipe_.card.ethics.empty()) {
      OrderedJson risk = OrderedJson::object();
      risk["name"] = recipe_.card.ethics;
      said["ethicalConsiderations"] = OrderedJson::array();
      said["ethicalConsiderations"].push_back(std::move(risk));
    }
    said["technicalLimitations"] = OrderedJson::array();
    for (const auto& limit : known_limits(recipe_, inputs_.result))
      said["technicalLimitations"].push_back(limit);
    if (inputs_.result.training.operations > 0) {
      auto properties = OrderedJson::array();
      add_bom_property(properties, "retort:training:floatingPointOperations",
                       fmt::format("{:.6g}", inputs_.result.training.operations));
      said["environmentalConsiderations"] = OrderedJson::object();
      said["environmentalConsiderations"]["properties"] = std::move(properties);
    }
    return said;
  }

  void add_base() {
    OrderedJson component = OrderedJson::object();
    component["type"] = "machine-learning-model";
    component["bom-ref"] = kBase;
    component["name"] = base_name();
    component["description"] = "the base model";
    if (!inputs_.base_license.empty()) component["licenses"] = bom_licenses(inputs_.base_license);
    if (const auto purl = hub_purl(recipe_.card.base_model); !purl.empty()) component["purl"] = purl;
    auto properties = OrderedJson::array();
    add_bom_property(properties, "retort:path", inputs_.base.name);
    add_bom_files(component, kBase, inputs_.base.files, properties);
    OrderedJson card = OrderedJson::object();
    if (!inputs_.result.samples.architecture.empty()) {
      card["modelParameters"] = OrderedJson::object();
      card["modelParameters"]["modelArchitecture"] = inputs_.result.samples.architecture;
    }
    if (auto metrics = bom_metrics(inputs_.result.base.tasks); !metrics.empty()) {
      card["quantitativeAnalysis"] = OrderedJson::object();
      card["quantitativeAnalysis"]["performanceMetrics"] = std::move(metrics);
    }
    if (!card.empty()) component["modelCard"] = std::move(card);
    component["properties"] = std::move(properties);
    components_.push_back(std::move(component));
    made_from_.emplace_back(kBase);
  }

  void add_part(const std::string& kind, const BomFiles& part, const std::string& description) {
    OrderedJson component = OrderedJson::object();
    component["type"] = "machine-learning-model";
    component["bom-ref"] = fmt::format("{}-{}", kind, components_.size());
    component["name"] = part.name;
    component["description"] = description;
    auto properties = OrderedJson::array();
    if (part.gone) say_gone(properties);
    add_bom_files(component, component["bom-ref"].get<std::string>(), part.files, properties);
    if (!properties.empty()) component["properties"] = std::move(properties);
    made_from_.push_back(component["bom-ref"].get<std::string>());
    components_.push_back(std::move(component));
  }

  static void say_gone(OrderedJson& properties) {
    add_bom_property(properties, "retort:missing", "its files were gone when this bill was written");
  }

  static std::string source_ref(size_t i) { return fmt::format("data-{}", i + 1); }

  OrderedJson data_component(const std::string& ref, const BomFiles& from, OrderedJson& properties) const {
    OrderedJson component = OrderedJson::object();
    component["type"] = "data";
    component["bom-ref"] = ref;
    component["name"] = from.name;
    if (from.gone) say_gone(properties);
    add_bom_files(component, ref, from.files, properties);
    OrderedJson data = OrderedJson::object();
    data["type"] = "dataset";
    data["name"] = from.name;
    if (recipe_.is_private) data["classification"] = "private";
    component["data"] = OrderedJson::array();
    component["data"].push_back(std::move(data));
    return component;
  }

  void add_source(size_t i) {
    auto properties = OrderedJson::array();
    auto component = data_component(source_ref(i), inputs_.sources[i], properties);
    if (!recipe_.card.data_license.empty()) component["licenses"] = bom_licenses(recipe_.card.data_license);
    const auto& counts = inputs_.result.samples.sources;  // absent in the record of an earlier version
    if (i < counts.size()) {
      add_bom_property(properties, "retort:records", std::to_string(counts[i].records));
      add_bom_property(properties, "retort:records:training", std::to_string(counts[i].train));
      add_bom_property(properties, "retort:records:heldOut", std::to_string(counts[i].held_out));
      add_bom_property(properties, "retort:samplesInAnEpoch", std::to_string(counts[i].samples));
    }
    component["properties"] = std::move(properties);
    components_.push_back(std::move(component));
    made_from_.push_back(source_ref(i));
  }

  void add_questions(const BomFiles& from) {
    auto properties = OrderedJson::array();
    add_bom_property(properties, "retort:use", "evaluation alone");
    auto component = data_component(fmt::format("questions-{}", components_.size()), from, properties);
    component["properties"] = std::move(properties);
    components_.push_back(std::move(component));
  }

  OrderedJson dependencies() const {
    auto list = OrderedJson::array();
    const auto add = [&](const std::string& ref, const std::vector<std::string>& needs) {
      OrderedJson one = OrderedJson::object();
      one["ref"] = ref;
      one["dependsOn"] = needs;
      list.push_back(std::move(one));
    };
    add(kTrained, made_from_);
    add(kBase, {});
    for (const auto& one : exports_) {
      const auto& kind = one.model->artefact->kind;
      std::vector<std::string> needs = {kTrained};
      if (kind == "peft" || kind == "gguf-adapter") needs.emplace_back(kBase);  // it does not run without
      add(one.model->name, needs);
    }
    return list;
  }

  // Which lists are whole: all files of an export; nothing of what a base was made from.
  OrderedJson compositions() const {
    OrderedJson whole = OrderedJson::object(), unknown = OrderedJson::object();
    whole["aggregate"] = "complete";
    whole["assemblies"] = OrderedJson::array();
    for (const auto& one : exports_) whole["assemblies"].push_back(one.model->name);
    unknown["aggregate"] = "unknown";
    unknown["dependencies"] = OrderedJson::array();
    unknown["dependencies"].push_back(kBase);
    auto list = OrderedJson::array();
    list.push_back(std::move(whole));
    list.push_back(std::move(unknown));
    return list;
  }

  static constexpr const char* kTrained = "trained-model";
  static constexpr const char* kBase = "base-model";
  const BomInputs& inputs_;
  const std::vector<BomExport>& exports_;
  const Recipe& recipe_;
  OrderedJson components_ = OrderedJson::array();
  std::vector<std::string> made_from_;
};

}  // namespace

OrderedJson model_bom(const BomInputs& inputs, const std::vector<BomExport>& exports) {
  return Bill(inputs, exports).made();
}

std::string bom_text(const OrderedJson& bom) {
  return bom.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace retort
