"""Ways to spend one parameter budget, before any retraining: half width, or where the scores say, with several floors.

The budget is that of SevenNet-l3i5 at half width. Displaced MPtrj frames are labelled by the parent; see criteria.py
for the test sets.
"""

import argparse

from criteria import TARGETS, test_sets
from reference_data import mptrj, split_by_composition

import equiprune as ep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", type=int, default=120)
    parser.add_argument("--test", type=int, default=40)
    arguments = parser.parse_args()
    calibration, test = split_by_composition(mptrj(12), arguments.calibration, arguments.test)
    parent = ep.load("7net-l3i5")
    scores = ep.calibrate(parent, calibration)
    half = ep.prune(parent, ep.allocate(parent, TARGETS["7net-l3i5"], scores))
    fraction = half.parameters(trainable_only=True) / parent.parameters(trainable_only=True)
    models = {"half width": half}
    for floor in (0.4, 0.25, 0.1, 0.0):
        targets = [ep.Lmax(2), ep.EdgeLmax(2), ep.Parameters(fraction, floor)]
        models[f"budget, floor {floor}"] = ep.prune(parent, ep.allocate(parent, targets, scores))
    for name, model in models.items():
        print(f"{name:20}{model.parameters(trainable_only=True):>9,}  {', '.join(model.architecture.hidden_irreps)}")
    for name, structures in test_sets(test, parent).items():
        print(f"\n{name:20}{'E MAE, meV/atom':>18}{'F MAE, meV/A':>14}")
        for accuracy in ep.evaluate(models, structures):
            print(f"{accuracy.model:20}{accuracy.mae('energy'):18.0f}{accuracy.mae('forces'):14.1f}")


if __name__ == "__main__":
    main()
