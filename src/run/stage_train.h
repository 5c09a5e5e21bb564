// The run's training as train() takes it, for whoever computes it: the stage, and a replay of its steps.
#pragma once
#include <string>
#include <vector>

#include "run/open_run.h"
#include "train/train.h"

namespace retort {

// Compared one by one with that of the checkpoints, so that a refusal can say what differs. train() adds its
// samples and settings.
Fingerprint training_fingerprint(Run& run);

// Puts the recipe's adapter at its start on the run's model, and asks or opens the teacher. Once for a run.
// `notes`: what is to be told of both.
TrainJob training_job(Run& run, std::vector<std::string>& notes);

}  // namespace retort
