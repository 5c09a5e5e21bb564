#include "run/bom_completeness.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/error.h"
#include "run/model_bom.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

enum class Tier { critical, important, supplementary };
enum class Place {
  document,
  property,        // of the metadata
  component,       // the first one
  parameters,      // of its model card
  considerations,  // of its model card
  card,            // property of its model card
  shape,           // the same, and counted only where it is filled
  reference,       // an external reference of that kind
  documentation    // the same of the described component
};

struct Field {
  const char* name;
  Tier tier;
  Place place;
  const char* there;  // its name at the place
  const char* key;
  const char* what;
};
struct Category {
  double points;
  std::vector<Field> fields;
};

constexpr auto kCritical = Tier::critical, kImportant = Tier::important, kSupplementary = Tier::supplementary;

const std::vector<Category>& categories() {
  static const std::vector<Category> all = {
      {20,
       {{"bomFormat", kCritical, Place::document, "bomFormat", "", "CycloneDX"},
        {"specVersion", kCritical, Place::document, "specVersion", "", "the version of CycloneDX"},
        {"serialNumber", kCritical, Place::document, "serialNumber", "", "the number of the bill"},
        {"version", kCritical, Place::document, "version", "", "the version of the bill"}}},
      {20,
       {{"primaryPurpose", kCritical, Place::property, "primaryPurpose", "", "the task"},
        {"suppliedBy", kCritical, Place::property, "suppliedBy", "card.supplier.name",
         "who supplies the model"},
        {"standardCompliance", kSupplementary, Place::property, "standardCompliance", "card.standards",
         "standards and rules that it was made to"},
        {"domain", kSupplementary, Place::property, "domain", "card.domain",
         "the field that the model is for"},
        {"autonomyType", kSupplementary, Place::property, "autonomyType", "card.autonomy",
         "what it decides by itself"}}},
      {20,
       {{"name", kCritical, Place::component, "name", "", "the name of the export"},
        {"type", kCritical, Place::component, "type", "", "that it is a model"},
        {"component_version", kCritical, Place::component, "version", "", "the version of the export"},
        {"purl", kImportant, Place::component, "purl", "", "its package URL"},
        {"description", kImportant, Place::component, "description", "", "what it is"},
        {"licenses", kImportant, Place::component, "licenses", "card.license", "the licence of the exports"},
        {"external_references", kSupplementary, Place::component, "externalReferences", "",
         "files and pages that belong to it"}}},
      {30,
       {{"datasets", kImportant, Place::parameters, "datasets", "", "what it was trained on"},
        {"ethicalConsiderations", kImportant, Place::considerations, "ethicalConsiderations", "card.ethics",
         "whom its mistakes may harm, and how"},
        {"energyConsumption", kImportant, Place::considerations, "environmentalConsiderations",
         "card.energy_kwh", "computation or energy of the training"},
        {"hyperparameter", kImportant, Place::card, "hyperparameter", "", "the settings of the training"},
        {"technicalLimitations", kImportant, Place::considerations, "technicalLimitations", "card.limits",
         "what is known not to work"},
        {"safetyRiskAssessment", kImportant, Place::property, "safetyRiskAssessment", "card.risk_assessment",
         "what was found when its risks were assessed"},
        {"intendedUse", kImportant, Place::considerations, "useCases", "card.intended_use",
         "what the model is for"},
        {"typeOfModel", kImportant, Place::parameters, "modelArchitecture", "", "its architecture"},
        {"modelExplainability", kSupplementary, Place::card, "modelCardExplainability", "card.explainability",
         "how a person can find out why it answers as it does"},
        {"energyQuantity", kSupplementary, Place::property, "energyQuantity", "card.energy_kwh",
         "energy of the training, measured by you"},
        {"energyUnit", kSupplementary, Place::property, "energyUnit", "card.energy_kwh",
         "energy of the training, measured by you"},
        {"informationAboutTraining", kSupplementary, Place::property, "informationAboutTraining", "",
         "steps and computation of a training"},
        {"informationAboutApplication", kSupplementary, Place::property, "informationAboutApplication",
         "card.intended_use", "what the model is for"},
        {"metric", kSupplementary, Place::property, "metric", "eval.tasks", "what was measured"},
        {"metricDecisionThreshold", kSupplementary, Place::property, "metricDecisionThreshold", "gate",
         "bounds that the scores must hold"},
        {"modelDataPreprocessing", kSupplementary, Place::property, "modelDataPreprocessing", "",
         "what was done to the data"},
        {"useSensitivePersonalInformation", kSupplementary, Place::property,
         "useSensitivePersonalInformation", "card.personal_data",
         "what personal data the samples hold, and what was done about them"},
        {"vocab_size", kSupplementary, Place::shape, "vocabSize", "", ""},
        {"tokenizer_class", kSupplementary, Place::shape, "tokenizerClass", "", ""},
        {"context_length", kSupplementary, Place::shape, "contextLength", "", ""},
        {"embedding_length", kSupplementary, Place::shape, "embeddingLength", "", ""},
        {"block_count", kSupplementary, Place::shape, "blockCount", "", ""},
        {"attention_head_count", kSupplementary, Place::shape, "attentionHeadCount", "", ""},
        {"attention_head_count_kv", kSupplementary, Place::shape, "attentionHeadCountKV", "", ""},
        {"feed_forward_length", kSupplementary, Place::shape, "feedForwardLength", "", ""},
        {"rope_dimension_count", kSupplementary, Place::shape, "ropeDimensionCount", "", ""},
        {"quantization_version", kSupplementary, Place::shape, "quantizationVersion", "", ""},
        {"quantization_file_type", kSupplementary, Place::shape, "quantizationFileType", "", ""}}},
      {10,
       {{"paper", kSupplementary, Place::documentation, "documentation", "", "a page that describes it"},
        {"vcs", kSupplementary, Place::reference, "vcs", "card.repository",
         "the repository that it is kept in"},
        {"website", kSupplementary, Place::reference, "website", "card.website", "a page about the model"},
        {"downloadLocation", kImportant, Place::reference, "distribution", "", "its file"}}}};
  return all;
}

const Json& member(const Json& object, const char* key) {
  static const Json absent;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return !object.is_object() || found == object.end() ? absent : *found;
}

bool says_something(const Json& value) {
  return !value.is_null() && !(value.is_string() && value.get_ref<const std::string&>().empty()) &&
         !(value.is_structured() && value.empty());
}

// Of a list of {NAME: word, VALUE: ...} one whose name is `word` and whose value is not empty.
bool is_listed(const Json& list, const char* name, const std::string& word, const char* value) {
  if (!list.is_array()) return false;
  return std::any_of(list.begin(), list.end(), [&](const Json& one) {
    return member(one, name) == Json(word) && says_something(member(one, value));
  });
}

bool is_filled(const Json& bom, const Field& field) {
  const auto& metadata = member(bom, "metadata");
  const auto& components = member(bom, "components");
  static const Json none;
  const auto& first = components.is_array() && !components.empty() ? components.front() : none;
  const auto& card = member(first, "modelCard");
  switch (field.place) {
    case Place::document: return says_something(member(bom, field.there));
    case Place::property: return is_listed(member(metadata, "properties"), "name", field.there, "value");
    case Place::component: return says_something(member(first, field.there));
    case Place::parameters: return says_something(member(member(card, "modelParameters"), field.there));
    case Place::considerations: return says_something(member(member(card, "considerations"), field.there));
    case Place::card:
    case Place::shape:
      return is_listed(member(card, "properties"), "name",
                       std::string("genai:aibom:modelcard:") + field.there, "value");
    case Place::reference: return is_listed(member(first, "externalReferences"), "type", field.there, "url");
    case Place::documentation:
      return is_listed(member(member(metadata, "component"), "externalReferences"), "type", field.there,
                       "url");
  }
  return false;
}

double rounded(double points) { return std::round(points * 10) / 10; }

}  // namespace

BomCompleteness completeness_of(const Json& bom) {
  BomCompleteness found;
  int missing_critical = 0, missing_important = 0;
  for (const auto& [points, fields] : categories()) {
    int64_t filled = 0, counted = 0;
    for (const auto& field : fields) {
      const bool is_there = is_filled(bom, field);
      if (!is_there && field.place == Place::shape) continue;
      ++counted;
      filled += is_there;
      if (is_there) continue;
      missing_critical += field.tier == Tier::critical;
      missing_important += field.tier == Tier::important;
      found.gaps.push_back({field.name, field.key, field.what});
    }
    found.points += rounded(points * static_cast<double>(filled) / static_cast<double>(counted));
    found.filled += filled;
    found.counted += counted;
  }
  // What weighs more than its share of the fields.
  if (missing_critical > 3) found.points *= 0.8;
  else if (missing_critical >= 2) found.points *= 0.9;
  if (missing_important >= 5) found.points *= 0.95;
  found.points = std::clamp(rounded(found.points), 0.0, 100.0);
  return found;
}

std::vector<CountedBill> counted_bills(const fs::path& run) {
  std::vector<CountedBill> bills;
  if (!fs::is_directory(run / "export")) return bills;
  for (const auto& entry : fs::recursive_directory_iterator(run / "export"))
    if (entry.is_regular_file() && entry.path().filename() == kBomFile)
      bills.push_back(
          {entry.path().lexically_relative(run).string(), completeness_of(read_json(entry.path()))});
  std::sort(bills.begin(), bills.end(),
            [](const CountedBill& a, const CountedBill& b) { return a.file < b.file; });
  return bills;
}

namespace {

// Of all bills together, each once.
std::vector<BomGap> gaps_of(const std::vector<CountedBill>& bills) {
  std::vector<BomGap> all;
  for (const auto& bill : bills)
    for (const auto& gap : bill.completeness.gaps)
      if (std::none_of(all.begin(), all.end(), [&](const BomGap& one) { return one.field == gap.field; }))
        all.push_back(gap);
  return all;
}

}  // namespace

Table bills_table(const std::string& title, const std::vector<CountedBill>& bills) {
  Table table{title,
              "Points are for completeness alone, as OWASP's AIBOM generator counts filled fields: they say "
              "nothing about whether what stands there is right.",
              {"item", "recorded"},
              {},
              true};
  for (const auto& [file, completeness] : bills)
    table.rows.push_back({file, fmt::format("{:.1f} of 100 points: {} of {} fields are filled",
                                            completeness.points, completeness.filled, completeness.counted)});
  for (const auto& [field, key, what] : gaps_of(bills))
    table.rows.push_back({"Empty: " + field, key.empty()
                                                 ? fmt::format("{}; no file of this run says it", what)
                                                 : fmt::format("{}; {} fills it", what, key)});
  return table;
}

std::string bills_line(const std::vector<CountedBill>& bills) {
  if (bills.empty()) return "";
  double least = 100, most = 0;
  for (const auto& bill : bills) {
    least = std::min(least, bill.completeness.points);
    most = std::max(most, bill.completeness.points);
  }
  const auto gaps = gaps_of(bills);
  return fmt::format(
      "{} ({}), {} of 100 points for completeness{}", bills.size(), kBomFile,
      least == most ? fmt::format("{:.1f}", most) : fmt::format("{:.1f} to {:.1f}", least, most),
      gaps.empty() ? ""
                   : fmt::format("; the dossier says how to fill {} empty field{}", gaps.size(),
                                 gaps.size() == 1 ? "" : "s"));
}

}  // namespace retort
