"""Cut a model, distil it from its parent, and fine-tune it on labels of another level of theory.

python examples/finetune.py [MODEL [LABELLED]]

MODEL is the toy model unless given; LABELLED (extxyz) are structures with your labels. Unless given, another code is
imitated: the parent's energies, a pair interaction, and constants for each element. finetune.txt is what is printed.
"""

import sys
import tempfile
from pathlib import Path

from ase.calculators.mixing import SumCalculator
from ase.calculators.morse import MorsePotential

import equiprune as ep
from equiprune.labelling.teachers import CalculatorTeacher

HERE = Path(__file__).parent
parent = ep.load(sys.argv[1] if len(sys.argv) > 1 else "toy")
structures = list(ep.read_structures(HERE / "structures.extxyz"))
if len(sys.argv) > 2:
    mine = list(ep.read_structures(sys.argv[2]))
else:
    other = SumCalculator([parent.calculator(), MorsePotential(epsilon=0.02, r0=1.5, rho0=2.0)])
    copies = ep.augmented(structures, ep.Augmentation(copies=4, seed=2))
    labelled = list(ep.label(CalculatorTeacher(other, "another code"), copies))
    mine = ep.relabelled(labelled, {number: 0.5 * number for number in parent.elements})  # eV

# 1. Cut to half of the parameters, and fit what is left in closed form.
plan = ep.allocate(parent, [ep.Parameters(0.5)], ep.calibrate(parent, structures))
copies = list(ep.augmented(structures, ep.Augmentation(copies=4, seed=1)))
small = ep.repair(ep.prune(parent, plan), parent, copies).potential

with tempfile.TemporaryDirectory() as folder:
    # 2. Distil: the parent's labels are all that is needed.
    preset = ep.PRESETS["mace-universal"]
    recipe = ep.Recipe(preset.objective, preset.optimisation, epochs=3)
    distilled = ep.train(small, list(ep.label(parent, copies)), recipe, Path(folder) / "distilled")

    # 3. Fine-tune: constants per element are fitted first, exactly, so that training is about the rest.
    fitted = ep.RefitReferences().apply(distilled, mine)
    print("Constants, eV:", {number: round(change, 1) for number, change in fitted.changes.items()})
    recipe = ep.Recipe(preset.objective, preset.optimisation, epochs=10)
    tuned = ep.train(fitted.potential, mine, recipe, Path(folder) / "tuned")

models = {"distilled, constants fitted": fitted.potential, "fine-tuned": tuned}
for accuracy in ep.evaluate(models, mine):
    energy, forces = accuracy.mae("energy"), accuracy.mae("forces")
    print(f"{accuracy.model}: {energy:.1f} meV/atom, {forces:.1f} meV/Angstrom")
