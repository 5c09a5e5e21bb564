// A recipe: everything a run does, in one file.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "adapters/adapter_spec.h"
#include "data/data_spec.h"
#include "distill/distill_spec.h"
#include "eval/eval_spec.h"
#include "export/export_spec.h"
#include "models/model_spec.h"
#include "student/prune_spec.h"
#include "teacher/teacher_spec.h"
#include "train/train_spec.h"

namespace retort {

// The `run:` section.
struct RunSpec {
  std::string folder;

  template <class Visitor> void fields(Visitor& field) {
    field("folder", folder, any(),
          "where everything is written; empty: runs/ and the name of the recipe's file");
  }
};

// The `card.supplier:` section: who answers for the exports.
struct SupplierSpec {
  std::string name, url, contact;

  template <class Visitor> void fields(Visitor& field) {
    field("name", name, any(), "the organization or the person");
    field("url", url, any(), "its address on the web");
    field("contact", contact, any(), "whom to ask: an e-mail address or a name");
  }
};

// The `card:` section: what no file of a run says. Each is written as it stands; nothing is looked up.
struct RecipeCard {
  std::string license, base_model, data_license, intended_use, limits;
  std::string domain, autonomy, standards, ethics, risk_assessment, explainability, personal_data;
  std::string repository, website;
  std::vector<std::string> datasets, languages, tags;
  double base_training_flops = 0, energy_kwh = 0;
  SupplierSpec supplier;

  template <class Visitor> void fields(Visitor& field) {
    field("license", license, any(), "licence of the exports, as hubs write it: apache-2.0");
    field("base_model", base_model, any(), "the base's name on a hub, as owner/name");
    field("datasets", datasets, any(), "names of the data sets on a hub");
    field("data_license", data_license, any(), "licence of the data");
    field("languages", languages, any(), "as codes: [en, de]");
    field("tags", tags, any(), "further tags for a hub");
    field("intended_use", intended_use, any(), "what the model is for, and what it is not for");
    field("limits", limits, any(), "what is known not to work");
    field("base_training_flops", base_training_flops, at_least(0),
          "operations of the base's own training, of which the dossier tells the run's share; 0 = not known");
    field.section("supplier", supplier, "who supplies the exports");
    field("domain", domain, any(), "the field that the model is for: medicine, law");
    field("autonomy", autonomy, any(), "what it decides by itself: suggests to a person, who decides");
    field("standards", standards, any(), "standards and rules that it was made to");
    field("ethics", ethics, any(), "ethical considerations: whom its mistakes may harm, and how");
    field("risk_assessment", risk_assessment, any(), "what was found when its risks were assessed");
    field("explainability", explainability, any(), "how a person can find out why it answers as it does");
    field("personal_data", personal_data, any(),
          "what personal data its samples hold, and what was done about them; none, if there are none");
    field("energy_kwh", energy_kwh, at_least(0),
          "energy of the training in kilowatt-hours, measured by you; 0 = not known");
    field("repository", repository, any(), "address of the repository that the exports are kept in");
    field("website", website, any(), "address of a page about the model");
  }
};

// The `report:` section.
struct ReportSpec {
  std::optional<int64_t> samples;

  template <class Visitor> void fields(Visitor& field) {
    field("samples", samples, between(0, 1000),
          "held-out samples that report.html shows with their texts, before and after the training; empty: "
          "12, and 0 where `private` is true");
  }
};

struct Recipe {
  std::string about;
  bool is_private = false;
  std::string device = "cpu", device_memory;
  ModelSpec model;
  DataSpec data;
  AdapterSpec adapter;
  TrainSpec train;
  EvalSpec eval;
  std::vector<BoundSpec> gate;
  ExportSpec exports;
  std::optional<PruneSpec> prune;
  std::optional<TeacherSpec> teacher;
  std::optional<DistillSpec> distill;
  ReportSpec report;
  RecipeCard card;
  RunSpec run;

  // Held-out samples whose texts stand in the report and, of a private run, in any file that says what was
  // answered.
  int64_t shown_samples() const { return report.samples.value_or(is_private ? 0 : 12); }

  template <class Visitor> void fields(Visitor& field) {
    field("about", about, any(), "what this recipe is for; shown in the report");
    field("private", is_private, any(),
          "the samples are nobody else's business: report and answers keep scores and no text of a sample "
          "(report.samples asks for some), class names are numbers, and `check` shows no sample unless it is "
          "asked to");
    field("device", device, not_empty(),
          "where models are computed: cpu; cuda or cuda:N, an NVIDIA GPU, whose driver and whose part of "
          "LibTorch are loaded for it alone; auto: the first GPU where both are there, else the CPU");
    field("device_memory", device_memory, any(),
          "of a GPU's memory, at most so much for weights that stay there, such as 60GiB; what finds no room "
          "is copied there for each use. Empty: what is free when the program starts, less a quarter of it, "
          "2 GiB at least, for what passes compute");
    field.section("model", model, "the base weights");
    field.section("data", data, "the samples");
    field.section("prune", prune, "the model is cut to a smaller one before anything else");
    field.section("teacher", teacher, "a larger model that the model learns from");
    field.section("distill", distill, "how it learns from the teacher");
    field.section("adapter", adapter, "what is trained");
    field.section("train", train, "how it is trained");
    field.section("eval", eval, "what is measured, before and after");
    field.list("gate", gate, "bounds that the result must hold: the run exits 1 when one is broken");
    field.section("export", exports, "what is written for deployment");
    field.section("report", report, "what report.html shows");
    field.section("card", card, "what the model cards beside the exports and the dossier say besides");
    field.section("run", run, "where the run is kept");
  }
};

struct LoadedRecipe {
  Recipe recipe;
  std::string file;                // as given
  std::string resolved;            // every key with its value, as YAML that reads back equal
  std::string sha256;              // of `resolved`
  std::vector<std::string> notes;  // what whoever wrote it may want to know, a line each
};

// Reads FILE, applies `overrides` (key.path=value) and checks all of it. Throws RecipeError that lists every
// problem.
LoadedRecipe load_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides);
// The same from text; `name` stands for the file in messages.
LoadedRecipe parse_recipe(std::string_view text, const std::string& name,
                          const std::vector<std::string>& overrides = {});

}  // namespace retort
