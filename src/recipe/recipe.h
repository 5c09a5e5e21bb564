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

struct Recipe {
  std::string about;
  std::string device = "cpu";
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
  RunSpec run;

  template <class Visitor> void fields(Visitor& field) {
    field("about", about, any(), "what this recipe is for; shown in the report");
    field("device", device, not_empty(),
          "where models are computed: cpu; cuda or cuda:N, an NVIDIA GPU, whose driver and whose part of "
          "LibTorch are loaded for it alone; auto: the first GPU where both are there, else the CPU");
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
    field.section("run", run, "where the run is kept");
  }
};

struct LoadedRecipe {
  Recipe recipe;
  std::string file;      // as given
  std::string resolved;  // every key with its value, as YAML that reads back equal
  std::string sha256;    // of `resolved`
};

// Reads FILE, applies `overrides` (key.path=value) and checks all of it. Throws RecipeError that lists every
// problem.
LoadedRecipe load_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides);
// The same from text; `name` stands for the file in messages.
LoadedRecipe parse_recipe(std::string_view text, const std::string& name,
                          const std::vector<std::string>& overrides = {});

}  // namespace retort
