// What a model gives away of its training samples: how much likelier planted canaries are than their twins
// (exposure), and how well training samples can be told from others by their losses (membership).
#pragma once
#include <vector>

#include "eval/subject.h"
#include "forest/samples.h"

namespace retort {

// Bits, arXiv:1802.08232, sections 4.2 and 4.3: log2 of how many texts there are, the canary and its twins,
// minus log2 of the canary's rank among them by likelihood. A twin that is as likely stands before it. 0 to
// log2(twins + 1); of a text that was not learned 1.44 on the average.
double exposure(double canary_nats, const std::vector<double>& twin_nats);
double largest_exposure(size_t twins);

// Probability that a member scores more than another, equal ones by half: the area under the ROC curve.
double area_under_curve(const std::vector<double>& members, const std::vector<double>& others);
// Its 95 % interval: Hanley and McNeil, Radiology 143, 1982.
Interval area_interval(double area, size_t members, size_t others);
// Share of the members that score more than all of the others but `false_share` of them, rounded down.
double true_positives(const std::vector<double>& members, const std::vector<double>& others,
                      double false_share);

// Metrics mean_exposure, max_exposure and limit; the exposure of each canary as its score.
TaskResult exposure_task(const Subject& subject, const std::vector<Sample>& canaries,
                         const std::vector<Sample>& twins, const std::string& name);

// Samples to learn from and samples held out, each once and no canary among them.
struct MembershipSamples {
  std::vector<Sample> members, others;
};
inline constexpr int64_t kMembershipSamples = 1000;
// At most `most` of each side, drawn by the seed; 0: kMembershipSamples.
MembershipSamples draw_for_membership(const Samples& train, const Samples& held_out, int64_t most,
                                      int64_t seed);

// Members are guessed by their loss in nats a token (Yeom et al. 2018, arXiv:1709.01604): where `base`, the
// result of the same task on the base, is there, by how much the loss fell (calibration by another model's
// loss: Watson et al. 2022, arXiv:2111.08440). Metrics auc and tpr_at_1_percent_fpr of that, and auc_of_loss
// of the loss alone. The loss of each sample as its score. FormatError where `base` is of other samples.
TaskResult membership_task(const Subject& subject, const MembershipSamples& samples, const TaskResult* base,
                           const std::string& name);

}  // namespace retort
