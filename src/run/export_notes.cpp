#include "run/export_notes.h"

#include "base/error.h"
#include "report/fidelity.h"

namespace retort {

namespace {

constexpr size_t kNamed = 5;
constexpr double kNotable = 0.05;  // share of the training's change of a layer

bool is_adapter(const Artefact& artefact) {
  return artefact.kind == "peft" || artefact.kind == "gguf-adapter";
}

// Few bits a weight: neither an adapter nor a type of floating point.
bool is_quantized(const Artefact& artefact) {
  return artefact.kind == "gguf" && artefact.label != "F32" && artefact.label != "F16" &&
         artefact.label != "BF16";
}

std::string cause(const Artefact& artefact, const ModelSpec& base) {
  if (is_adapter(artefact))
    return "an adapter holds the trained numbers themselves, so that this is a mistake of retort's; please "
           "report it";
  const bool base_rounded = base.weights == "nf4" || base.weights == "int8";
  if (is_quantized(artefact) && base_rounded)
    return fmt::format(
        "the base was held as {} while it was trained (model.weights), and {} rounds once more what {} had "
        "rounded; model.weights: keep trains on the weights of the file itself, and the export then loses "
        "several times less",
        base.weights, artefact.label, base.weights);
  if (is_quantized(artefact))
    return fmt::format(
        "{} keeps too few bits of these weights; a type with more of them (Q6_K, Q8_0) loses "
        "less",
        artefact.label);
  return fmt::format("rounding to {} loses this; export.merged: f32 or export.gguf: [F32] keep all of it",
                     artefact.label);
}

}  // namespace

std::string describe_rounding(const Artefact& artefact) {
  const auto error = artefact.delta_error;
  if (!(error > kNotable)) return "";
  std::string help = "export.merged: f32, or the adapter, keep what was trained.";
  if (const auto& names = artefact.vanished; !names.empty()) {
    std::string some;
    for (size_t i = 0; i < std::min(kNamed, names.size()); ++i) some += (i > 0 ? ", " : "") + names[i];
    if (names.size() > kNamed) some += fmt::format(" and {} more", names.size() - kNamed);
    help = fmt::format("Most of the update vanished in {} of its matrices: {}. {}", names.size(), some, help);
  }
  if (error >= 1)
    return fmt::format(
        "The training changed one layer by less than {} can tell apart: rounding moves the weights of that "
        "layer {:.1f} times as far as the training did. {}",
        artefact.label, error, help);
  return fmt::format(
      "Rounding to {} moves the weights of one layer by {:.0f} % of what the training moved them, less in "
      "the "
      "others. {}",
      artefact.label, 100 * error, help);
}

std::string describe_fidelity(const Artefact& artefact, const Agreement& agreement, const ModelSpec& base) {
  const auto rated = fidelity_of(agreement.kl_nats, agreement.top1);
  if (rated == "good") return "";
  return fmt::format(
      "The file is rated {}: it differs from the trained model by {:.3f} nats a token, and chooses the same "
      "token in {:.1f} % of the places. The cause: {}.",
      rated, agreement.kl_nats, 100 * agreement.top1, cause(artefact, base));
}

}  // namespace retort
